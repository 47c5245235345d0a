"""LatentNeuralODE: a learned ODE in a latent space."""

from collections.abc import Callable
from typing import Any, ClassVar

import torch
import torchode
from torch import Tensor, nn
from torch.nn import functional
from torchode.interpolation import poly4eval
from torchode.status_codes import Status

from codes.schema import DataSpec, LatentNeuralODEConfig
from codes.surrogates.base import SolverFailure
from codes.surrogates.latent import LatentSurrogate
from codes.surrogates.layers import ConditionedMLP

RightHandSide = Callable[[Tensor, Tensor], Tensor]


class LatentNeuralODE(LatentSurrogate):
    r"""Encoder, autonomous neural ODE in the latent space, decoder.

    .. math:: \dot z = f(z, p) \quad \text{or} \quad \dot z = s \tanh f(z, p), \qquad z(0) = \mathrm{encoder}(x_0, p)

    The second form (``ode_tanh_reg``) is bounded by the learned scale s. The parameters p enter the encoder
    (``encode_params``), or else f. A system that depends on time itself needs a latent feature to spare as its clock.

    Chen et al. 2018, arXiv:1806.07366; Sulzer & Buck 2023, arXiv:2312.06015.

    Raises:
        SolverFailure: a trajectory took more than ``max_steps`` steps, or is not finite.
    """

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
        if config.ode_tanh_reg:
            self.scale = nn.Parameter(torch.tensor(self.initial_scale))

    def evolve(self, z0: Tensor, t: Tensor, p: Tensor | None) -> Tensor:
        rhs = self.right_hand_side(p)
        return solve(rhs, z0, t, rtol=self.config.rtol, atol=self.config.atol, max_steps=self.max_steps)

    def right_hand_side(self, p: Tensor | None) -> RightHandSide:
        """The function (t [B], z [B, L]) -> dz/dt [B, L] for fixed parameters."""
        shift = None if p is None or self.encode_params else self.network.condition(p)
        if self.config.ode_tanh_reg:
            return lambda _, z: self.scale * torch.tanh(self.network(z, shift))
        return lambda _, z: self.network(z, shift)


def solve(rhs: RightHandSide, z0: Tensor, t: Tensor, *, rtol: float, atol: float, max_steps: int) -> Tensor:
    """Integrate dz/dt = rhs(t, z) from z(0) = z0 by Tsit5 with steps of its own for each trajectory.

    Integration ends at t = 1, or at the latest time if that is later, and the states come from the interpolant of each
    step. So a state depends neither on which other times are asked for, nor on their order. Gradients are those of
    the steps taken; their sizes count as constants.

    Args:
        rhs: (t [B], z [B, L]) to dz/dt [B, L].
        z0: states at t = 0, [B, L].
        t: times at or after 0, in any order, [T].
        rtol: relative tolerance of a step's error.
        atol: absolute tolerance of a step's error.
        max_steps: accepted and rejected steps that a trajectory may take.

    Returns:
        States, [B, T, L].

    Raises:
        SolverFailure: a trajectory needed more steps, or is not finite.
    """
    n = z0.shape[0]
    term = torchode.ODETerm(rhs, with_stats=False)
    solver = torchode.AutoDiffAdjoint(
        Tsit5(term),
        torchode.IntegralController(atol, rtol, term=term),
        max_steps=max_steps,
        backprop_through_step_size_control=False,
    )
    end = t.max().clamp(min=1.0)
    problem = torchode.InitialValueProblem(z0, t.new_zeros(n), end.expand(n), t.expand(n, -1))
    solution = solver.solve(problem, term)
    failed = solution.status[solution.status != 0]
    if len(failed):
        reason = Status(int(failed[0])).name.lower().replace("_", " ")
        raise SolverFailure(f"the ODE solver gave up on {len(failed)} of {n} trajectories: {reason}")
    return solution.ys


class Tsit5(torchode.Tsit5):
    """Tsitouras' method of order 5(4) (2011) with an :class:`Interpolant`."""

    def build_interpolation(self, data: Any) -> "Interpolant":
        return Interpolant(super().build_interpolation(data))


class Interpolant:
    """A step's interpolant of order 4, with its coefficients looked up as one embedding.

    The gradient of an embedding is summed in a fixed order. That of torchode's own way, indexing, is not on more than
    one CPU thread, and a training would then differ from run to run.
    """

    def __init__(self, interpolant: Any) -> None:
        self.t0, self.t1 = interpolant.t0, interpolant.t1
        self.coefficients = torch.cat(interpolant.coefficients, dim=1)

    def evaluate(self, t: Tensor, index: Tensor) -> Tensor:
        """States at the times ``t`` [N] of the trajectories ``index`` [N]: [N, L]."""
        rows = functional.embedding(index, self.coefficients)
        return poly4eval(*rows.chunk(5, dim=1), t, self.t0[index], self.t1[index])
