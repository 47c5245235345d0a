"""All weights of a model side by side in one row, so that what is done to each of them is done at once."""

import torch
from torch import Tensor, nn


def sizes(model: nn.Module) -> list[int]:
    """Elements of each parameter of ``model``, in their order."""
    return [parameter.numel() for parameter in model.parameters()]


def flattened(model: nn.Module) -> Tensor:
    """A copy of all parameters of ``model``, [N]."""
    return torch.cat([value.detach().flatten() for value in model.parameters()])


def lay_out(model: nn.Module, row: Tensor, gradients: Tensor | None = None) -> None:
    """Have the parameters of ``model`` be parts of ``row`` [N]: what is written there, they are.

    With ``gradients`` [N], ``backward`` adds to those.
    """
    of_model = sizes(model)
    for parameter, part in zip(model.parameters(), row.split(of_model), strict=True):
        parameter.data = part.view_as(parameter)
    if gradients is not None:
        for parameter, part in zip(model.parameters(), gradients.split(of_model), strict=True):
            parameter.grad = part.view_as(parameter)
