"""Linear layers and activations in a row, which train with little memory to move."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from codes.surrogates.once import once_differentiable
from codes.surrogates.products import Linear, affine, layer_gradients

_aten = torch.ops.aten
# Of activations whose slope follows from their value: put it in place of its argument, and a gradient by the argument
# in place of the one by the value. By what a module calls itself, which has its arguments.
InPlace = tuple[Callable[[Tensor], Tensor], Callable[[Tensor, Tensor], Tensor]]
IN_PLACE: dict[str, InPlace] = {
    "ReLU()": (torch.relu_, lambda g, y: _aten.threshold_backward.grad_input(g, y, 0, grad_input=g)),
    "LeakyReLU(negative_slope=0.01)": (
        lambda x: nn.functional.leaky_relu_(x, 0.01),
        lambda g, y: _aten.leaky_relu_backward.grad_input(g, y, 0.01, True, grad_input=g),
    ),
    "Tanh()": (torch.tanh_, lambda g, y: _aten.tanh_backward.grad_input(g, y, grad_input=g)),
}
FEWEST = 2**14  # elements of a value: fewer are not worth moving less memory, they stay in the fastest cache


class Chain(nn.Sequential):
    """Linear layers with one kind of activation between them, or before each; to rounding what ``nn.Sequential`` is.

    Layers of a few dozen neurons on a CPU spend much of their time on moving memory. So large values of the activations
    in ``IN_PLACE`` take the place of their arguments in training and without gradients, and gradients by the arguments
    that of those by the values. In evaluation mode with gradients, where a user may differentiate more than once, and
    in a program that is exported, nothing is in place.

    What goes in may be many means of few points. Since a linear layer of means is the means of a linear layer, the
    first one then sees the points only.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        layers = list(self)
        kinds = {repr(layer) for layer in layers if not isinstance(layer, Linear)}
        takes_turns = all(isinstance(layer, Linear) != index % 2 for index, layer in enumerate(reversed(layers)))
        self.activation = kinds.pop() if takes_turns and len(kinds) == 1 else ""
        self.starts_active = len(layers) % 2 == 0

    def forward(self, x: Tensor, shift: Tensor | None = None, shares: Tensor | None = None) -> Tensor:
        """Of ``x``, of ``x + shift``, which are broadcast, or, if a linear layer is first, of means ``shares @ x``.

        ``shares`` [..., M, P] are those of points [..., P, n] in M means, and sum to 1.
        """
        in_place = IN_PLACE.get(self.activation)
        once = (self.training or not torch.is_grad_enabled()) and (shares is None or not shares.requires_grad)
        if in_place is None or not once or torch.compiler.is_exporting() or not self.is_large(x, shift, shares):
            x = x if shift is None else x + shift
            return super().forward(x if shares is None else shares @ x)
        linear: list[Any] = list(self)[self.starts_active :: 2]
        parameters = [parameter for layer in linear for parameter in (layer.weight, layer.bias)]
        if torch.is_grad_enabled():
            return _Chain.apply(in_place, self.starts_active, x, shift, shares, *parameters)
        return values(in_place[0], self.starts_active, x, shift, shares, parameters)[0]

    def is_large(self, x: Tensor, shift: Tensor | None = None, shares: Tensor | None = None) -> bool:
        """Whether a hidden layer on the CPU has ``FEWEST`` values."""
        shape = x.shape if shift is None else torch.broadcast_tensors(x, shift)[0].shape  # broadcast_shapes takes 15 us
        n_rows = math.prod(shape[:-1]) if shares is None else math.prod(shape[:-2]) * shares.shape[-2]
        last: Any = self[-1]
        return x.is_cpu and n_rows * last.weight.shape[-1] >= FEWEST


class _Chain(torch.autograd.Function):
    """Of each linear layer what went in is kept; the slopes of the activation before it follow from that."""

    @staticmethod
    def forward(
        ctx: Any,
        in_place: InPlace,
        starts_active: bool,
        x: Tensor,
        shift: Tensor | None,
        shares: Tensor | None,
        *parameters: Tensor,
    ) -> Tensor:
        ctx.shapes = (x.shape, None if shift is None else shift.shape)
        ctx.starts_active, ctx.descend_, ctx.shares = starts_active, in_place[1], shares
        inputs: list[Tensor] = []
        value, ctx.hidden_shape = values(in_place[0], starts_active, x, shift, shares, parameters, inputs)
        ctx.save_for_backward(*inputs, *parameters[::2])
        return value

    @staticmethod
    @once_differentiable("call eval() on the model")
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
        n_layers = len(ctx.saved_tensors) // 2
        inputs, weights = ctx.saved_tensors[:n_layers], ctx.saved_tensors[n_layers:]
        g = gradient.flatten(weights[0].ndim - 2, -2)
        to_parameters: list[Tensor | None] = []
        for index in reversed(range(n_layers)):
            if not index and ctx.shares is not None:
                g = means(ctx.shares.mT, g, ctx.hidden_shape)
            goes_on = bool(index) or any(ctx.needs_input_grad[2:4])
            to_input, to_weight = layer_gradients(g, inputs[index], weights[index], (goes_on, True))
            to_parameters += [g.sum(-2), to_weight]
            if to_input is not None:
                g = ctx.descend_(to_input, inputs[index]) if index or ctx.starts_active else to_input
        to_arguments: list[Tensor | None] = [None, None]
        if any(ctx.needs_input_grad[2:4]):
            g = g.view(ctx.hidden_shape)
            to_arguments = [
                g.sum_to_size(shape) if needed else None
                for shape, needed in zip(ctx.shapes, ctx.needs_input_grad[2:4], strict=True)
            ]
        return None, None, *to_arguments, None, *reversed(to_parameters)


def values(
    activate_: Callable[[Tensor], Tensor],
    starts_active: bool,
    x: Tensor,
    shift: Tensor | None,
    shares: Tensor | None,
    parameters: Sequence[Tensor],
    inputs: list[Tensor] | None = None,
) -> tuple[Tensor, torch.Size]:
    """The chain's value, and the shape of what went in; what went into each linear layer is added to ``inputs``."""
    value = x if shift is None else x + shift
    if starts_active:
        value = activate_(value.clone() if shift is None else value)
    shape = value.shape
    rows = value.flatten(parameters[0].ndim - 2, -2)
    del value
    for index in range(0, len(parameters), 2):
        if index:
            rows = activate_(rows)
        if inputs is not None:
            inputs.append(rows)
        rows = affine(rows, parameters[index], parameters[index + 1])
        if not index and shares is not None:
            rows = means(shares, rows, shape)
    n_rows = shape[-2:-1] if shares is None else shares.shape[-2:-1]
    return rows.view(*shape[:-2], *n_rows, -1), shape


def means(shares: Tensor, rows: Tensor, shape: torch.Size) -> Tensor:
    """``shares @ x`` as rows, where ``rows`` are those of x, which has all but its last two dimensions of ``shape``."""
    x = rows.view(*shape[:-2], shares.shape[-1], rows.shape[-1])
    return (shares @ x).flatten(rows.ndim - 2, -2)
