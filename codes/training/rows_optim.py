"""AdamW and SGD of rows of weights side by side, each row with a learning rate and weight decay of its own."""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from codes.schema import SurrogateConfig

BETAS, EPSILON = (0.9, 0.999), 1e-8  # PyTorch's defaults
# Of a tensor PyTorch's kernel gives a multiprocessor of a GPU up to 2^16 weights. So it gets pieces, as many as one
# launch of it takes.
PIECE, MOST_PIECES = 2**12, 32


class Rows:
    """An optimiser of ``rows`` [K, N], row k as ``configs[k]`` says, down their ``gradients`` [K, N].

    All its state is in tensors on their device, so that ``apply`` can be recorded as a CUDA graph.
    """

    STATE: ClassVar[tuple[str, ...]]  # of each weight, by the names of PyTorch's optimiser

    def __init__(self, rows: Tensor, gradients: Tensor, configs: Sequence[SurrogateConfig]) -> None:
        self.values = {name: torch.zeros_like(rows) for name in self.STATE}
        self.n_steps = 0
        self.place(rows, gradients, configs)

    def place(self, rows: Tensor, gradients: Tensor, configs: Sequence[SurrogateConfig]) -> None:
        """Go on with these in the place of those before."""
        self.rows, self.gradients = rows, gradients
        self.decays = rows.new_tensor([[config.regularization_factor] for config in configs])
        self.rates = torch.zeros_like(self.decays)

    def keep(self, left: list[int], rows: Tensor, gradients: Tensor, configs: Sequence[SurrogateConfig]) -> None:
        """Go on with those that are ``left`` of the rows."""
        self.values = {name: value[left] for name, value in self.values.items()}
        self.place(rows, gradients, configs)

    def begin_step(self, rates: Sequence[float]) -> None:
        """Set the learning rates of the next step."""
        self.rates.copy_(torch.tensor(rates).unsqueeze(1), non_blocking=True)  # which does not wait for a GPU
        self.n_steps += 1

    def apply(self) -> None:
        """Take it; the gradients may be used up."""
        raise NotImplementedError

    def average(self, place: int) -> Tensor | None:
        """Weights [N] to evaluate and to keep of the row at ``place``, where those are not the ones that it trains."""
        return None

    def state(self) -> dict[str, Tensor]:
        """What PyTorch's optimiser would know of the first row, but the number of its steps."""
        return {name: value[0] for name, value in self.values.items()}

    def restore(self, state: dict[str, Any], n_steps: int) -> None:
        """Go on with it from there, after ``n_steps``."""
        self.n_steps = n_steps
        for name, value in self.values.items():
            if state.get(name) is not None:  # PyTorch keeps no momentum of 0
                value[0] = state[name]


class AdamWRows(Rows):
    r"""AdamW (Loshchilov & Hutter 2019, arXiv:1711.05101).

    .. math:: w \leftarrow (1 - \eta \lambda) w - \eta \frac{m / (1 - \beta_1^t)}{\sqrt{v / (1 - \beta_2^t)} + \epsilon}

    PyTorch's kernel has one :math:`\eta` for all that it is given. So on the CPU it gets one row after the other. On a
    GPU, where that would be K launches instead of one, it moves zeros, with :math:`\eta = 1` and no decay, and each row
    takes its share of that move.
    """

    STATE = ("exp_avg", "exp_avg_sq")

    def place(self, rows: Tensor, gradients: Tensor, configs: Sequence[SurrogateConfig]) -> None:
        super().place(rows, gradients, configs)
        self.own_decays = [config.regularization_factor for config in configs]
        self.cut(None if rows.is_cpu else min(math.ceil(rows.numel() / PIECE), MOST_PIECES))

    def cut(self, n_pieces: int | None) -> None:
        """Have the kernel see all rows at once, in so many pieces, or (None) row by row."""
        self.is_at_once = n_pieces is not None
        self.moves = torch.zeros_like(self.rows) if self.is_at_once else self.rows
        self.counts = self.rows.new_full((n_pieces or len(self.rows),), self.n_steps)
        numbers = (self.moves, self.gradients, self.values["exp_avg"], self.values["exp_avg_sq"])
        parts = [value.view(-1).tensor_split(n_pieces) if n_pieces else value.unbind() for value in numbers]
        self.pieces = [list(part) for part in (*parts, self.counts.unbind())]

    def begin_step(self, rates: Sequence[float]) -> None:
        if self.is_at_once:
            super().begin_step(rates)
        else:
            self.own_rates = rates
            self.n_steps += 1

    def apply(self) -> None:
        self.counts += 1
        if self.is_at_once:
            self.moves.zero_()
            move(*self.pieces, rate=1.0, decay=0.0)
            self.rows.mul_(1 - self.rates * self.decays).addcmul_(self.rates, self.moves)
            return
        for rate, decay, *of_row in zip(self.own_rates, self.own_decays, *self.pieces, strict=True):
            move(*([part] for part in of_row), rate=rate, decay=decay)

    def restore(self, state: dict[str, Any], n_steps: int) -> None:
        super().restore(state, n_steps)
        self.counts.fill_(n_steps)


def move(
    weights: list[Tensor],
    gradients: list[Tensor],
    averages: list[Tensor],
    squares: list[Tensor],
    counts: list[Tensor],
    *,
    rate: float,
    decay: float,
) -> None:
    """One step by the kernel itself: what ``torch.optim`` does around it takes longer than a few thousand weights."""
    torch._fused_adamw_(
        weights,
        gradients,
        averages,
        squares,
        [],
        counts,
        lr=rate,
        beta1=BETAS[0],
        beta2=BETAS[1],
        weight_decay=decay,
        eps=EPSILON,
        amsgrad=False,
        maximize=False,
    )


class SGDRows(Rows):
    r"""Gradient descent with momentum, :math:`b \leftarrow \mu b + g + \lambda w, \; w \leftarrow w - \eta b`."""

    STATE = ("momentum_buffer",)

    def place(self, rows: Tensor, gradients: Tensor, configs: Sequence[SurrogateConfig]) -> None:
        super().place(rows, gradients, configs)
        self.momenta = rows.new_tensor([[config.momentum] for config in configs])

    def apply(self) -> None:
        (buffer,) = self.values.values()
        buffer.mul_(self.momenta).add_(self.gradients).addcmul_(self.decays, self.rows)
        self.rows.addcmul_(self.rates, buffer, value=-1)
