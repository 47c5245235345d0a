"""The products of a linear layer: of one model or of K stacked ones, and by the faster library of this CPU.

PyTorch multiplies float32 matrices on x86 by MKL, which has its best kernels for the processors of its maker only; on
others it reaches half of what they can do (docs/performance.md). oneDNN, which every PyTorch for x86 brings for its
convolutions, reaches it. Which of the two multiplies depends on shapes and the processor only, so the same training
gives the same bits.
"""

from typing import Any

import torch
from torch import Tensor, nn

from codes.device import cpu_maker

MKL_IS_SLOW = "intel" not in cpu_maker().lower()
# Multiply-adds, and length of the scalar products, from which oneDNN pays: below, its fixed cost of 10 us is too much;
# at 20 times as many it takes half.
FEWEST, SHORTEST = 2**19, 8


class Linear(nn.Linear):
    """``nn.Linear``, to rounding, whose weights may be stacked: [K, out, in] for inputs [K, ..., in]."""

    def forward(self, x: Tensor) -> Tensor:
        if self.weight.ndim == 3:
            return affine(x.flatten(1, -2), self.weight, self.bias).unflatten(1, x.shape[1:-1])
        if is_large(x, self.weight):
            return _OneDNN.apply(x, self.weight, self.bias)
        return super().forward(x)


def is_large(x: Tensor, weight: Tensor) -> bool:
    """Whether oneDNN is there, better than MKL, and worth its start; a program that is exported is for any size."""
    if not MKL_IS_SLOW or weight.ndim == 3 or torch.compiler.is_exporting():
        return False
    if not (x.is_cpu and x.dtype == torch.float32) or x.shape[-1] < SHORTEST:
        return False
    if x.numel() * weight.shape[0] < FEWEST:
        return False
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def affine(rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """``rows @ weight.T + bias``: [N, in] to [N, out], or [K, N, in] to [K, N, out]."""
    if is_large(rows, weight):
        return _onednn(rows, weight, bias)
    if bias is None:
        return rows @ weight.mT
    if weight.ndim == 3:
        return torch.baddbmm(bias.unsqueeze(1), rows, weight.mT)
    return torch.addmm(bias, rows, weight.t())


def gradient_of_input(gradient: Tensor, weight: Tensor) -> Tensor:
    """``gradient @ weight``: [N, out] to [N, in], or of each of K models."""
    return _onednn(gradient, weight.t()) if is_large(gradient, weight.mT) else gradient @ weight


def gradient_of_weight(gradient: Tensor, rows: Tensor) -> Tensor:
    """``gradient.T @ rows``: [N, out] and [N, in] to [out, in], or of each of K models.

    As the product with fewer rows than columns, which takes a seventh to a third of the time of the other one in narrow
    layers. Never by oneDNN, which would write both factors anew, in twice the time.
    """
    n_out, n_in = gradient.shape[-1], rows.shape[-1]
    return (rows.mT @ gradient).mT if n_out > n_in else gradient.mT @ rows


def _onednn(rows: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(rows, weight, bias, "none", [], "")


class _OneDNN(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return _onednn(x, weight, bias)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor | None], output: Tensor) -> None:
        x, weight, bias = inputs
        ctx.save_for_backward(x, weight)
        ctx.has_bias = bias is not None

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, Tensor | None]:
        x, weight = ctx.saved_tensors
        rows, gradients = x.flatten(0, -2), gradient.flatten(0, -2)
        if torch.is_grad_enabled():  # to be differentiated again
            to_bias = gradients.sum(0) if ctx.has_bias else None
            return (gradients @ weight).view_as(x), gradients.mT @ rows, to_bias
        to_x = gradient_of_input(gradients, weight).view_as(x) if ctx.needs_input_grad[0] else None
        return to_x, gradient_of_weight(gradients, rows), gradients.sum(0) if ctx.has_bias else None
