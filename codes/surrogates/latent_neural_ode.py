"""LatentNeuralODE: a learned ODE in a latent space."""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from codes.schema import DataSpec, LatentNeuralODEConfig
from codes.surrogates import tsit5_loop
from codes.surrogates.base import Effort
from codes.surrogates.latent import LatentSurrogate
from codes.surrogates.layers import ConditionedMLP
from codes.surrogates.tsit5 import solve


class LatentNeuralODE(LatentSurrogate):
    r"""Encoder, autonomous neural ODE in the latent space, decoder.

    .. math:: \dot z = f(z, p) \quad \text{or} \quad \dot z = s \tanh f(z, p), \qquad z(0) = \mathrm{encoder}(x_0, p)

    The second form (``ode_tanh_reg``) is bounded by the learned scale s. The parameters p enter the encoder
    (``encode_params``), or else f. A system that depends on time itself needs a latent feature to spare as its clock.

    Chen et al. 2018, arXiv:1806.07366; Sulzer & Buck 2023, arXiv:2312.06015.

    Raises:
        SolverFailure: a trajectory took more than ``max_steps`` steps, or is not finite.
    """

    capturable: ClassVar[bool] = True
    max_steps: ClassVar[int] = 500
    initial_scale: ClassVar[float] = 10.0
    config: LatentNeuralODEConfig

    def __init__(self, config: LatentNeuralODEConfig, spec: DataSpec) -> None:
        super().__init__(config, spec, encode_params=config.encode_params)
        self.network = ConditionedMLP(
            config.latent_features,
            0 if config.encode_params else spec.n_parameters,
            config.latent_features,
            width=config.ode_width,
            depth=config.ode_layers,
            activation=config.activation,
        )
        self.effort: Effort = Effort()
        if config.ode_tanh_reg:
            self.scale = nn.Parameter(torch.tensor(self.initial_scale))

    def evolve(self, z0: Tensor, t: Tensor, p: Tensor | None) -> Tensor:
        rhs = self.right_hand_side(p)
        tolerances = {"rtol": self.config.rtol, "atol": self.config.atol}
        if torch.compiler.is_exporting():
            return tsit5_loop.solve(rhs, z0, t, **tolerances, max_steps=self.max_steps)
        return solve(rhs, z0, t, **tolerances, max_steps=self.max_steps, effort=self.effort)

    def right_hand_side(self, p: Tensor | None) -> "NetworkField":
        """The function z [B, L] -> dz/dt [B, L] for fixed parameters."""
        shift = None if p is None or self.encode_params else self.network.condition(p)
        return NetworkField(self.network, shift, self.scale if self.config.ode_tanh_reg else None)


class NetworkField:
    """``N(z)`` with ``shift`` [B, width] added in the first layer, or ``scale * tanh N(z)``, taken apart by layers."""

    def __init__(self, network: ConditionedMLP, shift: Tensor | None, scale: Tensor | None) -> None:
        self.first: Any = network.first
        self.shift, self.scale = shift, scale
        rest: list[Any] = list(network.rest.children())
        self.hidden = list(zip(rest[::2], rest[1::2], strict=True))
        own = [*network.first.parameters(), *network.rest.parameters()]
        self.parameters: Sequence[Tensor] = [*own, *(value for value in (shift, scale) if value is not None)]

    def __call__(self, z: Tensor) -> Tensor:
        value = self.first(z)
        if self.shift is not None:
            value = value + self.shift
        for activation, linear in self.hidden:
            value = linear(activation(value))
        return value if self.scale is None else self.scale * torch.tanh(value)

    def linearised(self, z: Tensor) -> tuple[Tensor, list[tuple[Tensor, Tensor | None]]]:
        """Values at ``z`` [N, B, L]; of each layer its weight, and the slopes [N, B, ...] of what follows it."""
        value = self.first(z)
        if self.shift is not None:
            value = value + self.shift
        weight: Tensor = self.first.weight
        layers: list[tuple[Tensor, Tensor | None]] = []
        for activation, linear in self.hidden:
            after = activation(value)
            layers.append((weight.detach(), slope(after, value)))
            value, weight = linear(after), linear.weight
        if self.scale is None:
            return value, [*layers, (weight.detach(), None)]
        after = self.scale * torch.tanh(value)
        return after, [*layers, (weight.detach(), slope(after, value))]


def slope(after: Tensor, before: Tensor) -> Tensor:
    """Derivative of an elementwise function."""
    return torch.autograd.grad(after, before, torch.ones_like(after), retain_graph=True)[0]
