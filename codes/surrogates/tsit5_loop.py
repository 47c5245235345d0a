"""The solver of :mod:`codes.surrogates.tsit5` as one loop, for ``torch.export``, which cannot follow a Python loop."""

import torch
from torch import Tensor
from torch._higher_order_ops.while_loop import while_loop

from codes.surrogates.tsit5 import (
    ERROR,
    LEAST_FACTOR,
    MOST_FACTOR,
    POWERS,
    SAFETY,
    STAGES,
    RightHandSide,
    first_step,
)


def solve(rhs: RightHandSide, z0: Tensor, t: Tensor, *, rtol: float, atol: float, max_steps: int) -> Tensor:
    """As :func:`codes.surrogates.tsit5.solve`, the same steps and the same interpolant, without gradients.

    A program cannot raise: of a trajectory on which the other one gives up, the states that were not reached are NaN.

    Args:
        rhs: the right-hand side.
        z0: states at t = 0, [B, L].
        t: times in [0, 1], in any order, [T].
        rtol: relative tolerance of a step's error.
        atol: absolute tolerance of a step's error.
        max_steps: accepted and rejected steps that a trajectory may take.

    Returns:
        States, [B, T, L].
    """
    stages, error, powers = [z0.new_tensor(row) for row in STAGES], z0.new_tensor(ERROR), z0.new_tensor(POWERS)
    end, wanted = z0.new_ones(()), t.unsqueeze(0)

    def goes_on(n: Tensor, z: Tensor, first: Tensor, at: Tensor, dt: Tensor, found: Tensor) -> Tensor:
        return (n < max_steps) & ((at < end) & dt.isfinite()).any()

    def step(n: Tensor, z: Tensor, first: Tensor, at: Tensor, dt: Tensor, found: Tensor) -> tuple[Tensor, ...]:
        h = torch.minimum(dt, end - at)
        length, k = h.unsqueeze(1), [first]
        for weights in stages:
            new = torch.addcmul(z, length, torch.mv(torch.stack(k).flatten(1).t(), weights).view_as(z))
            k.append(rhs(new))
        flat = torch.stack(k).flatten(1)
        bound = torch.maximum(z.abs(), new.abs()) * rtol + atol
        ratio = (torch.mv(flat.t(), error).view_as(z) * length / bound).square().mean(1).sqrt()
        accepted = (ratio < 1) & (at < end)
        later = torch.where(accepted, torch.where(h == end - at, end, at + h), at)
        a, b, c, d = ((powers.t() @ flat).unflatten(1, z.shape) * length).unsqueeze(2).unbind(0)
        start, stop = at.unsqueeze(1), later.unsqueeze(1)
        s = ((wanted - start) / length).unsqueeze(-1)
        between = z.unsqueeze(1) + s * (a + s * (b + s * (c + s * d)))
        inside = accepted.unsqueeze(1) & (wanted >= start) & ((wanted < stop) | (stop == end))
        factor = (SAFETY * ratio.clamp(min=1e-20) ** -0.2).clamp(LEAST_FACTOR, MOST_FACTOR)
        keep = accepted.unsqueeze(1)
        return (
            n + 1,
            torch.where(keep, new, z),
            torch.where(keep, k[-1], first),
            later,
            torch.where(ratio.isfinite(), h * factor, torch.nan),
            torch.where(inside.unsqueeze(-1), between, found),
        )

    first = rhs(z0)
    dt = first_step(rhs, z0, first, rtol, atol)
    found = z0.new_full((z0.shape[0], t.shape[0], z0.shape[1]), torch.nan)
    counted = torch.zeros((), dtype=torch.int64, device=z0.device)
    carried = (counted, z0.clone(), first, z0.new_zeros(z0.shape[0]), dt, found)
    return while_loop(goes_on, step, carried)[-1]
