"""K models of one architecture as one: every parameter has a leading dimension of K, every product is a batch of K."""

import copy
import warnings

from torch import Tensor, nn

from codes.surrogates.base import Surrogate
from codes.surrogates.row import sizes

# Of gradients that are parts of rows, as the parameters are: added to in place, which costs no more.
warnings.filterwarnings("ignore", "grad and param do not obey the gradient layout contract")


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
