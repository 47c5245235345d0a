"""A linear layer whose large products on a CPU that is not Intel's are done by oneDNN."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from codes.device import cpu_maker

# MKL has its best kernels for the processors of its maker only; there oneDNN is slower (benchmarks.products).
MKL_IS_SLOW = "intel" not in cpu_maker().lower()
# Multiply-adds from which oneDNN pays: below, its fixed cost of 10 us is too much; at 20 times as many it takes half.
FEWEST = 2**19


class Linear(nn.Linear):
    """``nn.Linear``, to rounding, in half the time where it is large and on a CPU that is not Intel's.

    PyTorch multiplies float32 matrices on x86 by MKL, which reaches half of what such a processor can do
    (docs/performance.md). oneDNN, which every PyTorch for x86 brings for its convolutions, reaches it. Which of the two
    multiplies depends on shapes and the processor only, so the same training gives the same bits.
    """

    def forward(self, x: Tensor) -> Tensor:
        if self.weight.ndim == 3:
            return product_of_each(x, self.weight, self.bias)
        if self.is_large(x):
            return _OneDNN.apply(x, self.weight, self.bias)
        return super().forward(x)

    def is_large(self, x: Tensor) -> bool:
        """Whether oneDNN is there, better than MKL, and worth its start; a program that is exported is for any size."""
        if torch.compiler.is_exporting() or not MKL_IS_SLOW:
            return False
        if not (x.is_cpu and x.dtype == torch.float32 and x.numel() * self.out_features >= FEWEST):
            return False
        return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


class _OneDNN(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return product(x, weight, bias)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor | None], output: Tensor) -> None:
        x, weight, bias = inputs
        ctx.save_for_backward(x, weight)
        ctx.has_bias = bias is not None

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, Tensor | None]:
        x, weight = ctx.saved_tensors
        to_x = product(gradient, weight.t()) if ctx.needs_input_grad[0] else None
        rows, gradients = x.flatten(0, -2), gradient.flatten(0, -2)
        if weight.shape[0] > weight.shape[1]:  # oneDNN is faster with few rows and many columns
            to_weight = product(rows.t(), gradients.t()).t()
        else:
            to_weight = product(gradients.t(), rows.t())
        return to_x, to_weight, gradients.sum(0) if ctx.has_bias else None


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``x @ weight.T + bias`` by oneDNN, without gradients."""
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


def product_of_each(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """``x[k] @ weight[k].T + bias[k]`` of K models at once: x [K, ..., in], weight [K, out, in] to [K, ..., out]."""
    rows = x.flatten(1, -2)
    transposed = weight.transpose(1, 2)
    result = torch.bmm(rows, transposed) if bias is None else torch.baddbmm(bias.unsqueeze(1), rows, transposed)
    return result.unflatten(1, x.shape[1:-1])
