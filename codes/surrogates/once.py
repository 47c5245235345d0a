"""Gradients that have none themselves, and say so."""

import functools
from collections.abc import Callable
from typing import Any

import torch

Backward = Callable[..., Any]


def once_differentiable(instead: str) -> Callable[[Backward], Backward]:
    """Of ``backward`` of a ``torch.autograd.Function``: raise where ``create_graph`` asks for a gradient's gradient.

    PyTorch's decorator of this name raises later, and not at all in ``torch.autograd.grad`` where other paths lead to
    what is differentiated by: then a part of the second derivative is missing, and nobody is told.

    Args:
        instead: what to do.
    """

    def decorate(backward: Backward) -> Backward:
        @functools.wraps(backward)
        def checked(ctx: Any, *gradients: Any) -> Any:
            if torch.is_grad_enabled():
                raise RuntimeError(f"gradients of gradients (create_graph=True) are not to be had here: {instead}")
            return backward(ctx, *gradients)

        return checked

    return decorate
