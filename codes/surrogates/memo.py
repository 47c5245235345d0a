"""What depends on nothing but the times, which are the same ones in all steps of a training."""

from collections.abc import Callable
from typing import Generic, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


class Memo(Generic[T]):
    """``function`` of a tensor on the CPU, which is not called again for as long as the same tensor is given.

    Called as it is on other devices, where a recorded CUDA graph would outlive what is kept, for tensors that have
    gradients, in inference mode, whose tensors count no writes and are of no use outside, and in exported programs.
    """

    def __init__(self, function: Callable[[Tensor], T]) -> None:
        self.function = function
        self.last: tuple[Tensor, int, T] | None = None

    def __call__(self, tensor: Tensor) -> T:
        inference = torch.is_inference_mode_enabled() or tensor.is_inference()
        if not tensor.is_cpu or tensor.requires_grad or inference or torch.compiler.is_exporting():
            return self.function(tensor)
        if self.last is None or self.last[0] is not tensor or self.last[1] != tensor._version:
            self.last = (tensor, tensor._version, self.function(tensor))
        return self.last[2]
