"""One optimiser step of K stacked models, each with its own optimiser, learning rate and weight decay."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from codes.training.optim import Optimizer


class StackedOptimizer:
    """Steps of ``rows`` [K, N] along ``gradients`` [K, N], each as its own one of ``optimizers`` would do it.

    AdamW and SGD are done for all rows at once: a step of an optimiser for each costs more than the mathematics, which
    is PyTorch's (decoupled weight decay in AdamW, as a part of the gradient in SGD). AdamW's direction is what PyTorch
    makes of a parameter that is 0, at the learning rate 1. Schedule-free optimisers step one by one.
    """

    def __init__(self, optimizers: Sequence[Optimizer], rows: Tensor, gradients: Tensor) -> None:
        self.direction = nn.Parameter(torch.zeros_like(rows))
        self.adamw = torch.optim.AdamW([self.direction], lr=1.0, weight_decay=0.0, fused=True)
        self.velocity = torch.zeros_like(rows)
        self._take(optimizers, rows, gradients)

    def _take(self, optimizers: Sequence[Optimizer], rows: Tensor, gradients: Tensor) -> None:
        self.optimizers, self.rows, self.gradients = list(optimizers), rows, gradients
        self.direction.grad = gradients
        self.together = [optimizer for optimizer in optimizers if not optimizer.averages]
        self.one_by_one = [optimizer for optimizer in optimizers if optimizer.averages]
        kinds = [None if optimizer.averages else optimizer.config.optimizer for optimizer in optimizers]
        self.kinds = set(kinds)
        self.are = {kind: self._column([float(other == kind) for other in kinds]) for kind in ("adamw", "sgd")}
        self.decay = self._column([optimizer.config.regularization_factor for optimizer in optimizers])
        self.momentum = self._column([optimizer.config.momentum for optimizer in optimizers])

    def keep(self, index: Tensor, rows: Tensor, gradients: Tensor) -> None:
        """Go on with the rows ``index`` only, which now are ``rows`` and ``gradients``."""
        self.direction.data, self.velocity = self.direction.data[index], self.velocity[index]
        state = self.adamw.state[self.direction]
        state.update({name: value[index] for name, value in state.items() if value.ndim == 2})
        self._take([self.optimizers[i] for i in index.tolist()], rows, gradients)

    @torch.no_grad()
    def step(self) -> None:
        """Take one step."""
        rates = self._column([optimizer.learning_rate for optimizer in self.optimizers])
        if "adamw" in self.kinds:
            self.direction.zero_()
            self.adamw.step()
            rate = rates * self.are["adamw"]
            self.rows.mul_(1 - rate * self.decay).addcmul_(self.direction, rate)
        if "sgd" in self.kinds:
            self.velocity.mul_(self.momentum).add_(self.gradients).addcmul_(self.rows, self.decay)
            self.rows.addcmul_(self.velocity, rates * self.are["sgd"], value=-1)
        for optimizer in self.together:
            optimizer.steps += 1
        for optimizer in self.one_by_one:
            optimizer.apply()

    def _column(self, values: Sequence[float]) -> Tensor:
        return torch.tensor(values, device=self.velocity.device).unsqueeze(1)
