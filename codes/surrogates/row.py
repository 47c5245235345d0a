"""All weights that a model learns side by side in one row, so that what is done to each of them is done at once."""

import torch
from torch import Tensor, nn


def learned(model: nn.Module) -> list[nn.Parameter]:
    """Parameters of ``model`` that are to change, in their order."""
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def sizes(model: nn.Module) -> list[int]:
    """Elements of each of them."""
    return [parameter.numel() for parameter in learned(model)]


def flattened(model: nn.Module) -> Tensor:
    """A copy of them, [N]."""
    return torch.cat([value.detach().flatten() for value in learned(model)])


def lay_out(model: nn.Module, row: Tensor, gradients: Tensor | None = None) -> None:
    """Have them be parts of ``row`` [N]: what is written there, they are.

    With ``gradients`` [N], ``backward`` adds to those.
    """
    parameters, of_model = learned(model), sizes(model)
    for parameter, part in zip(parameters, row.split(of_model), strict=True):
        parameter.data = part.view_as(parameter)
    if gradients is not None:
        for parameter, part in zip(parameters, gradients.split(of_model), strict=True):
            parameter.grad = part.view_as(parameter)
