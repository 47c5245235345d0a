"""Building blocks that the families share."""

import math

import torch
from torch import Tensor, nn

from codes.surrogates.chain import Chain
from codes.surrogates.products import Linear

# Standard deviation of a hidden weight, times sqrt(fan_in). He et al. 2015 for the ReLU-like; less for the ELU-like,
# which pass more through. Measured over depths 3 and 8, see docs/surrogates.md.
_GAINS = {"CELU": 1.0, "ELU": 1.0, "SELU": 0.75}
_GAIN = math.sqrt(2)


def join(x: Tensor, p: Tensor | None) -> Tensor:
    """Put parameters beside states: [B, Q] and [B, P] give [B, Q + P], None adds nothing."""
    return x if p is None else torch.cat([x, p], dim=-1)


class PReLU(nn.PReLU):
    """``nn.PReLU`` whose slope may be stacked, [K, 1] for inputs [K, ...]."""

    def forward(self, x: Tensor) -> Tensor:
        if self.weight.ndim == 1:
            return super().forward(x)
        return torch.where(x > 0, x, self.weight.view(-1, *[1] * (x.ndim - 1)) * x)


def hidden_linear(n_in: int, n_out: int, activation: str, *, bias: bool = True) -> Linear:
    """A linear layer that ``activation`` follows, with weights drawn from N(0, gain² / n_in)."""
    layer = Linear(n_in, n_out, bias=bias)
    if not layer.weight.is_meta:  # for numbers that are not there PyTorch would import its compiler, which takes 1 s
        nn.init.normal_(layer.weight, std=_GAINS.get(activation, _GAIN) / math.sqrt(n_in))
    return layer


def mlp(n_in: int, n_out: int, *, width: int, depth: int, activation: str) -> Chain:
    """``depth`` hidden layers of ``width`` neurons, each with an activation module of its own, and a linear output."""
    make = {"PReLU": PReLU}.get(activation, getattr(nn, activation))
    layers: list[nn.Module] = []
    for n_before in [n_in] + [width] * (depth - 1):
        layers += [hidden_linear(n_before, width, activation), make()]
    return Chain(*layers, Linear(width, n_out))


class ConditionedMLP(nn.Module):
    r"""An :func:`mlp` on the concatenation [x; c] with a split first layer: :math:`W [x; c] + b = W_x x + b + W_c c`.

    ``condition(c)`` is computed once and broadcast against x: one state meets many times, or parameters that stay the
    same meet every step of a solver. Each share starts as a layer of its own fan-in: one time weighs as much as all
    quantities together.
    """

    def __init__(self, n_in: int, n_condition: int, n_out: int, *, width: int, depth: int, activation: str) -> None:
        super().__init__()
        net = mlp(n_in, n_out, width=width, depth=depth, activation=activation)
        self.first, self.rest = net[0], net[1:]
        if n_condition:
            self.condition = hidden_linear(n_condition, width, activation, bias=False)

    def forward(self, x: Tensor, shift: Tensor | None = None) -> Tensor:
        """From x [..., n_in] and ``shift = condition(c)``, which broadcasts against [..., width], to [..., n_out]."""
        return self.rest(self.first(x), shift)
