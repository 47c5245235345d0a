"""Tsitouras' Runge-Kutta method of order 5(4), with steps of its own for each trajectory, and its gradient."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from codes.surrogates.base import Effort, SolverFailure
from codes.surrogates.once import once_differentiable

# Tsitouras 2011, Comput. Math. Appl. 62, 770: stages, of which the last is the step itself, and the error estimate.
STAGES = (
    (0.161,),
    (-0.008480655492356989, 0.335480655492357),
    (2.8971530571054935, -6.359448489975075, 4.3622954328695815),
    (5.325864828439257, -11.748883564062828, 7.4955393428898365, -0.09249506636175525),
    (5.86145544294642, -12.92096931784711, 8.159367898576159, -0.071584973281401, -0.02826905039406838),
    (0.09646076681806523, 0.01, 0.4798896504144996, 1.379008574103742, -3.290069515436081, 2.324710524099774),
)
ERROR = (
    *(0.00178001105222577714, 0.0008164344596567469, -0.007880878010261995, 0.1447110071732629),
    *(-0.5823571654525552, 0.45808210592918697, -1 / 66),
)
# Weights of the interpolant of order 4: w_i(s) = a s^2 (s^2 + b s + c), expanded; the first also has a linear term.
POWERS = (
    (1.0, -2.763706197274826, 2.9132554618219126, -1.0530884977290216),
    (0.0, 0.13169999999999998, -0.2234, 0.1017),
    (0.0, 3.9302962368947516, -5.941033872131505, 2.490627285651253),
    (0.0, -12.411077166933676, 30.33818863028232, -16.548102889244902),
    (0.0, 37.50931341651104, -88.1789048947664, 47.37952196281928),
    (0.0, -27.896526289197286, 65.09189467479366, -34.87065786149661),
    (0.0, 1.5, -4.0, 2.5),
)
INNER = tuple(tuple(row[i] if i < len(row) else 0.0 for row in STAGES[:5]) for i in range(5))  # without the step itself
SAFETY, LEAST_FACTOR, MOST_FACTOR = 0.9, 0.2, 10.0
ROWS = 2**14  # states at which the gradient is taken at once: bounds the memory
USUAL_STEPS = 64  # of a batch, where shapes must tell; trainings of benchmarks.steps take 57 to 93

RightHandSide = Callable[[Tensor], Tensor]


class Field(Protocol):
    """A differentiable right-hand side ``f``, a chain of linear layers with elementwise functions in between."""

    @property
    def parameters(self) -> Sequence[Tensor]:
        """Tensors that ``f`` depends on and that get gradients."""

    def __call__(self, z: Tensor) -> Tensor:
        """``dz/dt`` [B, L] at ``z`` [B, L]."""

    def linearised(self, z: Tensor) -> tuple[Tensor, list[tuple[Tensor, Tensor | None]]]:
        """``f`` at ``z`` [N, B, L], and the weight and the slopes [N, B, ...] behind it of each layer in turn."""


@dataclass(frozen=True)
class Steps:
    """The steps that each of B trajectories took, side by side: from ``z`` [N, B, L] at ``t`` [N, B] by ``dt`` [N, B].

    ``k`` [N, 7, B, L] are the stages' derivatives. Where a trajectory took fewer, its last rows have its last state,
    length 0 and an infinite time. So has the last row of all.
    """

    z: Tensor
    k: Tensor
    t: Tensor
    dt: Tensor

    def at(self, times: Tensor) -> Tensor:
        """States at ``times`` [T] from the interpolant of the step around each, [B, T, L]."""
        n_rows, n, _ = self.z.shape
        wanted = times.expand(n, -1).contiguous()
        step = (torch.searchsorted(self.t.t().contiguous(), wanted, right=True) - 1).clamp(min=0)
        weights = (self.dt[:, None, :, None] * weighted(self.k, POWERS)).movedim(1, 2)
        rows = torch.cat([self.z.unsqueeze(2), weights], dim=2).view(n_rows * n, -1)
        index = step * n + torch.arange(n, device=step.device).unsqueeze(1)
        # The gradient of an embedding is summed in a fixed order, that of indexing is not on several CPU threads.
        start, a, b, c, d = functional.embedding(index, rows).chunk(5, dim=-1)
        s = ((wanted - self.t.view(-1)[index]) / self.dt.view(-1)[index]).unsqueeze(-1)
        return start + s * (a + s * (b + s * (c + s * d)))


def weighted(k: Tensor, weights: Sequence[Sequence[float]]) -> Tensor:
    """Sums of the derivatives ``k`` [N, 7, B, L] with weights [7][M], or fewer of both: [N, M, B, L]."""
    matrix = constant(weights, k.dtype, k.device)
    return (matrix.t() @ k[:, : len(weights)].flatten(2)).unflatten(2, k.shape[2:])


def solve(
    rhs: Field, z0: Tensor, t: Tensor, *, rtol: float, atol: float, max_steps: int, effort: Effort | None = None
) -> Tensor:
    """Integrate dz/dt = rhs(z) from z(0) = z0, with gradients.

    Integration ends at t = 1, or at the latest time if that is later, and the states come from the interpolant of each
    step. So a state depends neither on which other times are asked for, nor on their order. Gradients are those of
    the steps taken, by time those of their interpolants; the sizes of steps count as constants.

    Args:
        rhs: the right-hand side.
        z0: states at t = 0, [B, L].
        t: times at or after 0, in any order, [T].
        rtol: relative tolerance of a step's error.
        atol: absolute tolerance of a step's error.
        max_steps: accepted and rejected steps that a trajectory may take.
        effort: how many to take, if that is ``fixed``, and how many were ``needed``.

    Returns:
        States, [B, T, L].

    Raises:
        SolverFailure: a trajectory needed more steps, or is not finite.
    """
    if z0.is_meta:
        return _without_values(rhs, z0, t)
    tolerances = {"rtol": rtol, "atol": atol, "max_steps": max_steps, "effort": effort}
    return _Solution.apply(rhs, tolerances, t, z0, *rhs.parameters)


def _without_values(rhs: Field, z0: Tensor, t: Tensor) -> Tensor:
    """States [B, T, L] on the meta device, by way of tensors as large as a solution of ``USUAL_STEPS`` steps needs.

    The steps as they are taken (9 numbers for each feature), side by side, and sorted; of them 8 are kept. The
    right-hand side is linearised at as many states at once as for a gradient.
    """
    if z0.requires_grad:
        n_states = 7 * len(z0)
        at_once = min(max(ROWS // n_states, 1), USUAL_STEPS) * n_states
        rhs.linearised(z0.new_empty(at_once, z0.shape[1]).requires_grad_())
    taken = [z0.new_empty(9 * USUAL_STEPS, *z0.shape) for _ in range(2)]
    kept = z0.new_empty(8 * USUAL_STEPS, *z0.shape)
    del taken
    return (z0 * kept).sum(0).unsqueeze(1) * z0.new_empty(len(z0), len(t), z0.shape[1])


@cache
def constant(values: Any, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Numbers as a tensor, moved to the device once."""
    return torch.tensor(values, dtype=dtype, device=device)


@torch.no_grad()
def integrate(
    rhs: RightHandSide,
    z0: Tensor,
    end: Tensor,
    *,
    rtol: float,
    atol: float,
    max_steps: int,
    effort: Effort | None = None,
) -> Steps:
    """Steps of each trajectory from t = 0 to ``end``; raises as :func:`solve` does.

    A step is accepted if the root mean square over the features of its error, in units of
    ``atol + rtol * |z|``, is less than 1; the next one is as long as would have made it ``SAFETY`` to the fifth.
    With a fixed ``effort`` no value is looked at; a trajectory that does not get to the end has steps of length NaN.
    """
    n, effort = len(z0), effort or Effort()
    stages, error = [constant(row, z0.dtype, z0.device) for row in STAGES], constant(ERROR, z0.dtype, z0.device)
    z, t, taken = z0, z0.new_zeros(n), []
    first = rhs(z0)
    dt = first_step(rhs, z0, first, rtol, atol)
    for _ in range(effort.fixed or max_steps):
        left = end - t
        h = torch.minimum(dt, left)
        k = z0.new_empty(7, *z0.shape)
        k[0] = first
        flat, length = k.view(7, -1), h.unsqueeze(1)
        for i, weights in enumerate(stages, start=1):
            new = torch.addcmul(z, length, torch.mv(flat[:i].t(), weights).view_as(z))
            k[i] = rhs(new)
        bound = torch.maximum(z.abs(), new.abs()).mul_(rtol).add_(atol)
        scaled = torch.mv(flat.t(), error).view_as(z).mul_(length).div_(bound)
        ratio = scaled.square_().mean(1).sqrt_()
        running = left > 0
        accepted = (ratio < 1) & running
        taken.append((z, k, t, h, accepted))
        dt = h * (SAFETY * ratio.clamp(min=1e-20) ** -0.2).clamp_(LEAST_FACTOR, MOST_FACTOR)
        keep = accepted.unsqueeze(1)
        z, first = torch.where(keep, new, z), torch.where(keep, k[6], first)
        t = torch.where(accepted, torch.where(h == left, end, t + h), t)
        if effort.fixed:
            continue
        if not bool(ratio.isfinite().all()):
            raise failure(int((~ratio.isfinite()).sum()), n, "infinite norm")
        if not bool((t < end).any()):
            effort.needed = len(taken)
            return _side_by_side(z, taken)
    if not effort.fixed:
        raise failure(int((t < end).sum()), n, "reached max steps")
    effort.needed = torch.stack([h for *_, h, _ in taken]).gt(0).any(1).sum()
    steps = _side_by_side(z, taken, n_rows=len(taken) + 1)
    return replace(steps, dt=steps.dt.masked_fill(t < end, torch.nan))


def failure(number: int, n: int, reason: str) -> SolverFailure:
    """What to say."""
    return SolverFailure(f"the ODE solver gave up on {number} of {n} trajectories: {reason}")


def first_step(rhs: RightHandSide, z: Tensor, k: Tensor, rtol: float, atol: float) -> Tensor:
    """Length of the first step, [B]: Hairer, Nørsett & Wanner, Solving ODEs I, II.4."""
    bound = atol + rtol * z.abs()
    state, slope = ((value / bound).square().mean(1).sqrt() for value in (z, k))
    small = (state < 1e-5) | (slope < 1e-5)
    guess = torch.where(small, 1e-6, 0.01 * state / slope)
    change = rhs(torch.addcmul(z, guess.unsqueeze(1), k)) - k
    curvature = (change / bound).square().mean(1).sqrt() / guess
    most = torch.maximum(slope, curvature)
    step = torch.where(most <= 1e-15, (guess * 1e-3).clamp(min=1e-6), (0.01 / most) ** 0.2)
    return torch.minimum(100 * guess, step)


def _side_by_side(end: Tensor, taken: Sequence[tuple[Tensor, ...]], n_rows: int | None = None) -> Steps:
    """Drop what was rejected: row i is the i-th accepted step of each trajectory; as many rows as needed, or given."""
    z, k, t, dt, accepted = (torch.stack(parts) for parts in zip(*taken, strict=True))
    counts = accepted.sum(0)
    order = torch.argsort(accepted.int(), dim=0, descending=True, stable=True)
    n_rows = int(counts.max()) + 1 if n_rows is None else n_rows
    index = order[:n_rows]
    if len(index) < n_rows:
        index = torch.cat([index, index[-1:]])
    rows = torch.arange(len(index), device=z.device).unsqueeze(1)
    there = rows < counts
    wide = index.unsqueeze(-1).expand(-1, -1, z.shape[-1])
    return Steps(
        torch.where(there.unsqueeze(-1), z.gather(0, wide), end),
        k.gather(0, wide.unsqueeze(1).expand(-1, 7, -1, -1)),
        t.gather(0, index).masked_fill(~there, torch.inf),
        dt.gather(0, index).masked_fill(~there, 0),
    )


class _Solution(torch.autograd.Function):
    """States at given times; the gradient goes back through the accepted steps, one after the other.

    Of each step only its state and derivatives were kept. What the chain rule needs of the right-hand side, and the
    gradients of its parameters, are computed for many steps at once, in products large enough to be fast.
    """

    @staticmethod
    def forward(ctx: Any, rhs: Field, tolerances: dict[str, Any], t: Tensor, z0: Tensor, *parameters: Tensor) -> Tensor:
        steps = integrate(rhs, z0, t.max().clamp(min=1.0), **tolerances)
        ctx.rhs, ctx.steps, ctx.t = rhs, steps, t
        return steps.at(t)

    @staticmethod
    @once_differentiable("an ODE solution has first derivatives only")
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        rhs, steps = ctx.rhs, ctx.steps
        with torch.enable_grad():
            z, k = steps.z.requires_grad_(), steps.k.requires_grad_()
            t = ctx.t.detach().requires_grad_(ctx.needs_input_grad[2])
            sought = (z, k, t) if t.requires_grad else (z, k)
            to_z, to_k, *to_t = torch.autograd.grad(Steps(z, k, steps.t, steps.dt).at(t), sought, gradient)
        to_k[1:, 0] += to_k[:-1, 6]  # a step's last derivative is the first of the next one
        z, k, h = z.detach(), k.detach(), steps.dt[:, None, :, None]
        stages = torch.cat([z.unsqueeze(1), z.unsqueeze(1) + h * weighted(k, INNER)], dim=1)
        later = torch.zeros_like(z[0])
        learned = [parameter for parameter in rhs.parameters if parameter.requires_grad]
        totals = [torch.zeros_like(parameter) for parameter in learned]
        at_once = max(ROWS // stages[0, ..., 0].numel(), 1)
        for start in reversed(range(0, len(stages), at_once)):
            part = slice(start, start + at_once)
            with torch.enable_grad():
                values, layers = rhs.linearised(stages[part].flatten(0, 1).requires_grad_())
            later, to_values = _back(layers, steps.dt[part], to_z[part], to_k[part], later)
            if learned:
                parts = torch.autograd.grad(values, learned, to_values)
                totals = [total + part for total, part in zip(totals, parts, strict=True)]
        gradients = iter(totals)
        to_parameters = (next(gradients) if parameter.requires_grad else None for parameter in rhs.parameters)
        return None, None, to_t[0] if to_t else None, later, *to_parameters


def _back(
    layers: list[tuple[Tensor, Tensor | None]], dt: Tensor, to_z: Tensor, to_k: Tensor, later: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradients of the first state and of all derivatives, from those of the state ``later`` after these steps."""
    columns = [constant(tuple(row[i] for row in STAGES[i:]), to_z.dtype, to_z.device) for i in range(6)]
    weights = [weight for weight, _ in reversed(layers)]
    slopes = [None if slope is None else slope.unbind(0) for _, slope in reversed(layers)]
    to_values = torch.empty_like(to_k[:, :6])
    to_states = torch.empty_like(to_k[0])
    flat = to_states.view(7, -1)
    for n in reversed(range(len(to_z))):
        length, to_states[6] = dt[n].unsqueeze(1), later
        for i in reversed(range(6)):
            value = torch.mv(flat[i + 1 :].t(), columns[i]).view_as(later)
            v = to_values[n, i] = torch.addcmul(to_k[n, i], length, value)
            for weight, slope in zip(weights, slopes, strict=True):
                v = (v if slope is None else v * slope[6 * n + i]) @ weight
            to_states[i] = v
        later = to_z[n] + to_states.sum(0)
    return later, to_values.flatten(0, 1)
