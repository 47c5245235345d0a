"""K models of one architecture as one: every parameter has a leading dimension of K, every product is a batch of K."""

import copy
import warnings
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from codes.surrogates.base import Surrogate

# Of gradients that are parts of rows, as the parameters are: added to in place, which costs no more.
warnings.filterwarnings("ignore", "grad and param do not obey the gradient layout contract")


def sizes(model: nn.Module) -> list[int]:
    """Elements of each parameter of ``model``, in their order."""
    return [parameter.numel() for parameter in model.parameters()]


def flattened(models: Sequence[nn.Module]) -> Tensor:
    """All parameters of each of K models in one row, [K, N]."""
    return torch.stack([torch.cat([value.detach().flatten() for value in model.parameters()]) for model in models])


def lay_out(model: nn.Module, row: Tensor) -> None:
    """Have the parameters of ``model`` be parts of ``row`` [N]: what is written there, they are."""
    parts = row.split(sizes(model))
    for parameter, part in zip(model.parameters(), parts, strict=True):
        parameter.data = part.view_as(parameter)


def stacked(model: Surrogate, rows: Tensor, gradients: Tensor) -> Surrogate:
    """The model whose stacked parameters are parts of ``rows`` [K, N]; ``backward`` adds to ``gradients`` [K, N]."""
    whole = copy.deepcopy(model)
    whole.stacked = True
    parts = zip(rows.split(sizes(model), 1), gradients.split(sizes(model), 1), strict=True)
    for (name, parameter), (part, gradient) in zip(list(whole.named_parameters()), parts, strict=True):
        owner, _, leaf = name.rpartition(".")
        shape = (len(rows), *parameter.shape)
        value = nn.Parameter(part.view(shape))
        value.grad = gradient.view(shape)
        setattr(whole.get_submodule(owner), leaf, value)
    return whole
