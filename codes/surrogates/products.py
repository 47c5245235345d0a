"""The products of a linear layer: of one model or of K stacked ones, and by the faster library of this CPU.

PyTorch multiplies float32 matrices on x86 by MKL, which has its best kernels for the processors of its maker only; on
others it reaches half to nine tenths of what they can do (docs/performance.md). oneDNN, which every PyTorch for x86
brings for its convolutions, reaches it in large products. Which of the two multiplies depends on shapes and the
processor only, so the same training gives the same bits.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from codes.device import cpu_flags, cpu_maker

MKL_IS_SLOW = "intel" not in cpu_maker().lower()
# Multiply-adds, and length of the scalar products, from which oneDNN pays. It has a fixed cost; without AVX-512, with
# which MKL does better, it takes half of MKL's time at 20 times as many.
FEWEST, SHORTEST = 2**24 if "avx512f" in cpu_flags() else 2**19, 8
# The same for gradients in bfloat16, and the narrowest layer for which rounding takes less than it gains.
HAS_BFLOAT16 = not cpu_flags().isdisjoint({"avx512_bf16", "amx_bf16"})
FEWEST_COARSE, NARROWEST_COARSE = 2**23, 128
_coarse = False


class Linear(nn.Linear):
    """``nn.Linear``, to rounding, whose weights may be stacked: [K, out, in] for inputs [K, ..., in]."""

    def forward(self, x: Tensor) -> Tensor:
        if self.weight.ndim == 3:
            return affine(x.flatten(1, -2), self.weight, self.bias).unflatten(1, x.shape[1:-1])
        if is_large(x, self.weight) or (self.training and pays_coarse(x, self.weight)):
            return _Linear.apply(x, self.weight, self.bias)
        return super().forward(x)


def size(rows: Tensor, weight: Tensor) -> int:
    """Multiply-adds of ``rows @ weight.T`` where there is a choice: of one model, in float32, on the CPU. Else 0.

    There is none in a program that is exported, which is for any size.
    """
    if weight.ndim == 3 or not rows.is_cpu or rows.dtype != torch.float32 or torch.compiler.is_exporting():
        return 0
    return rows.numel() * weight.shape[0]


def is_large(x: Tensor, weight: Tensor) -> bool:
    """Whether oneDNN is there, better than MKL, and worth its start."""
    if not MKL_IS_SLOW or x.shape[-1] < SHORTEST or size(x, weight) < FEWEST:
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


def layer_gradients(
    gradient: Tensor, rows: Tensor, weight: Tensor, needed: tuple[bool, bool]
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients by a layer's rows and by its weight, those that are ``needed``; see :func:`coarse_gradients`."""
    to_rows, to_weight = needed
    if is_coarse(gradient, weight):
        gradient, rows, weight = gradient.bfloat16(), rows.bfloat16(), weight.bfloat16()
        return (gradient @ weight).float() if to_rows else None, (gradient.mT @ rows).float() if to_weight else None
    return (
        gradient_of_input(gradient, weight) if to_rows else None,
        gradient_of_weight(gradient, rows) if to_weight else None,
    )


@contextmanager
def coarse_gradients(allowed: bool) -> Iterator[None]:
    """Inside, large layers multiply for gradients, not for values, in bfloat16 where the processor has that.

    Factors are rounded to 8 bits, products are summed in float32. That turns a gradient by less than a batch's choice
    does, and takes half of the time (docs/performance.md).
    """
    global _coarse
    before, _coarse = _coarse, allowed
    try:
        yield
    finally:
        _coarse = before


def is_coarse(gradient: Tensor, weight: Tensor) -> bool:
    """Whether gradients by rows and ``weight`` are, here and now."""
    return _coarse and pays_coarse(gradient, weight.mT)


def pays_coarse(rows: Tensor, weight: Tensor) -> bool:
    """Whether gradients of a product of this size would gain from it."""
    return HAS_BFLOAT16 and min(weight.shape) >= NARROWEST_COARSE and size(rows, weight) >= FEWEST_COARSE


def _onednn(rows: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(rows, weight, bias, "none", [], "")


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return affine(x.flatten(0, -2), weight, bias).unflatten(0, x.shape[:-1])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor | None], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:2])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        rows, gradients = x.flatten(0, -2), gradient.flatten(0, -2)
        if torch.is_grad_enabled():  # to be differentiated again
            to_rows, to_weight = gradients @ weight, gradients.mT @ rows
        else:
            to_rows, to_weight = layer_gradients(gradients, rows, weight, ctx.needs_input_grad[:2])
        to_x = None if to_rows is None else to_rows.view_as(x)
        return to_x, to_weight, gradients.sum(0) if ctx.needs_input_grad[2] else None
