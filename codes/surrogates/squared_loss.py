"""The latent families' loss for squared errors, with a gradient of its own: with fewer passes over memory."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from codes.surrogates.once import once_differentiable


def squared_loss(
    y: Tensor, x: Tensor, x0: Tensor, identity_weight: float, rates: Sequence[Tensor], weights: Sequence[float]
) -> Tensor:
    r"""Mean squares of an error :math:`e = y - x`, of that of the first state, and of the scaled derivatives of e.

    .. math:: \overline{e^2} + w_0 \overline{(y_0 - x_0)^2} + \sum_i w_i \overline{(e^{(i)})^2} / s_i^2,
              \qquad s_i^2 = 1 + \overline{(x^{(i)})^2}

    Args:
        y: states, [B, T, Q].
        x: the truth, [B, T, Q].
        x0: the first state, [B, Q].
        identity_weight: w_0.
        rates: what differences of neighbours in time are multiplied by, [T-1, Q], then those of them, [T-2, Q].
        weights: w_1, and w_2 with two rates.

    Returns:
        A scalar, with a gradient by ``y``.
    """
    return _SquaredLoss.apply(y, x, x0, identity_weight, rates, weights)


def differences(values: Tensor, rates: Tensor) -> Tensor:
    """Differences of neighbours [B, (T-1) Q] of values [B, T Q], times rates [T-1, Q]."""
    n = rates.shape[1]
    return torch.sub(values[:, n:], values[:, :-n]).mul_(rates.view(-1))


def spread(gradient: Tensor, into: Tensor, n: int) -> None:
    """Add to a gradient [B, T Q] by values what that by their differences [B, (T-1) Q] makes of them."""
    into[:, n:].add_(gradient)
    into[:, :-n].sub_(gradient)


def square(values: Tensor) -> Tensor | float:
    """Sum of squares; on the CPU in one pass, and as a number, with which arithmetic takes a tenth of the time."""
    flat = values.reshape(-1)
    return torch.dot(flat, flat).item() if flat.is_cpu else flat.square().sum()


class _SquaredLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        y: Tensor,
        x: Tensor,
        x0: Tensor,
        identity_weight: float,
        rates: Sequence[Tensor],
        weights: Sequence[float],
    ) -> Tensor:
        error, truth, first = (y - x).flatten(1), x.flatten(1), y[:, 0] - x0
        ctx.shape, ctx.rates, ctx.levels, ctx.first = x.shape, rates, [error], first
        ctx.factors, ctx.of_first = [1 / error.numel()], identity_weight / first.numel()
        loss = ctx.factors[0] * square(error) + ctx.of_first * square(first)
        for rate, weight in zip(rates, weights, strict=True):
            error, truth = differences(error, rate), differences(truth, rate)
            factor = weight / (truth.numel() + square(truth))  # weight / (number * s^2)
            loss = loss + factor * square(error)
            ctx.levels.append(error)
            ctx.factors.append(factor)
        return torch.as_tensor(loss, dtype=y.dtype)

    @staticmethod
    @once_differentiable("take the loss of the prediction, model(x0, t, p), by your own criterion")
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        n, twice = ctx.shape[2], 2 * (gradient.item() if gradient.is_cpu else gradient)
        own = [level * (twice * factor) for level, factor in zip(ctx.levels, ctx.factors, strict=True)]
        for i, rate in reversed(list(enumerate(ctx.rates))):
            spread(own[i + 1].mul_(rate.view(-1)), own[i], n)
        own[0][:, :n].add_(ctx.first * (twice * ctx.of_first))
        return own[0].view(ctx.shape), None, None, None, None, None
