"""Optimisers with their learning-rate schedules, and losses."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from codes.schema import SurrogateConfig
from codes.training.rows_optim import AdamWRows, Rows, SGDRows
from codes.training.schedule_free import FreeAdamWRows, FreeSGDRows

Criterion = Callable[[Tensor, Tensor], Tensor]
SCHEDULED: dict[str, type[Rows]] = {"adamw": AdamWRows, "sgd": SGDRows}
FREE: dict[str, type[Rows]] = {"adamw": FreeAdamWRows, "sgd": FreeSGDRows}


def criterion(config: SurrogateConfig) -> Criterion:
    """Mean squared error, or the smooth L1 loss that is quadratic below ``beta`` and linear above."""
    if config.loss == "mse":
        return functional.mse_loss
    return partial(functional.smooth_l1_loss, beta=config.beta)


class StackedCriterion:
    """The losses of K stacked models, each by its own configuration: [K], means over all that follows K."""

    def __init__(self, configs: Sequence[SurrogateConfig], device: torch.device) -> None:
        self.squares = torch.tensor([config.loss == "mse" for config in configs], device=device)
        self.are_all_squares = all(config.loss == "mse" for config in configs)
        self.beta = torch.tensor([config.beta for config in configs], device=device)

    def __call__(self, prediction: Tensor, truth: Tensor) -> Tensor:
        """Losses of predictions [K, ...]."""
        return self.elementwise(prediction, truth).flatten(1).mean(1)

    def weighted(self, weights: Tensor) -> Criterion:
        """The same with weights [K, B, T] of the rows of predictions [K, B, T, Q]; those of a model sum to 1."""
        return lambda prediction, truth: (self.elementwise(prediction, truth).mean(-1) * weights).flatten(1).sum(1)

    def elementwise(self, prediction: Tensor, truth: Tensor) -> Tensor:
        """The loss of each number."""
        difference = prediction - truth
        squares = difference.square()
        if self.are_all_squares:
            return squares
        shape = (-1, *[1] * (difference.ndim - 1))
        beta, distance = self.beta.view(shape), difference.abs()
        smooth = torch.where(distance < beta, squares / (2 * beta), distance - beta / 2)
        return torch.where(self.squares.view(shape), squares, smooth)


def learning_rate(config: SurrogateConfig, step: int, total: int) -> float:
    """Learning rate of step ``step`` of ``total``, counted from 0; with ``s = step / total``:

    - schedulefree: ``lr``
    - cosine: ``lr * (eta_min + (1 - eta_min) * (1 + cos(pi s)) / 2)``, so ``eta_min`` is a fraction of ``lr``
    - poly: ``lr * (1 - s) ** poly_power``
    """
    passed = step / total
    if config.scheduler == "cosine":
        factor = config.eta_min + (1 - config.eta_min) * (1 + math.cos(math.pi * passed)) / 2
    elif config.scheduler == "poly":
        factor = (1 - passed) ** config.poly_power
    else:
        factor = 1.0
    return config.learning_rate * factor


class Optimizer:
    """AdamW or SGD of one ``row`` of weights, which has a gradient, under a schedule of ``total`` steps.

    A schedule is a function of the step, so it has no state. A row, and not the tensors of a model, since the work
    around the mathematics is done for each tensor: with a dozen small ones it takes most of the time.
    """

    def __init__(self, row: nn.Parameter, config: SurrogateConfig, total: int) -> None:
        self.config, self.total, self.row = config, total, row
        self.steps = 0
        self.place = 0  # of the row among ``rows``

    @property
    def kind(self) -> type[Rows]:
        """Those of one kind can step at once."""
        kinds = FREE if self.config.scheduler == "schedulefree" else SCHEDULED
        return kinds[self.config.optimizer]

    @cached_property
    def rows(self) -> Rows:
        """What steps, alone or with others, from the gradient that the row has by now."""
        assert self.row.grad is not None
        return self.kind(self.row.detach()[None], self.row.grad[None], [self.config])

    @property
    def learning_rate(self) -> float:
        """Learning rate of the next step, or of the last one at the end."""
        return learning_rate(self.config, min(self.steps, self.total - 1), self.total)

    def begin_step(self) -> None:
        """Set the learning rate of the next step."""
        self.rows.begin_step([self.learning_rate])
        self.steps += 1

    def apply(self) -> None:
        """Take one step down the gradient that the row has."""
        self.rows.apply()

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Inside, the model holds the weights to evaluate and to keep; outside, those that are trained, bit for bit."""
        average = self.rows.average(self.place)
        if average is None:
            yield
            return
        row = self.row.detach()
        trained = row.clone()
        row.copy_(average)
        try:
            yield
        finally:
            row.copy_(trained)

    def state(self) -> dict[str, Any]:
        """Everything that ``restore`` needs, on any device, as dictionaries, numbers and tensors."""
        return {"steps": self.steps, "row": self.rows.state()}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from ``state()``."""
        self.steps = state["steps"]
        self.rows.restore(state["row"], self.steps)


def warm_up(device: str | torch.device = "cpu") -> None:
    """Do a process's first backward pass and optimiser step, which import and set up for 1 to 4 s.

    A worker calls it once, so that its first timed training is not slower than the others.
    """
    torch.set_flush_denormal(True)  # as trainings do (cpu.cpu_settings); threads that begin from here on inherit it
    row = nn.Parameter(torch.ones(2, device=device))
    row.grad = torch.zeros_like(row)
    config = SurrogateConfig(
        optimizer="adamw", scheduler="poly", learning_rate=1.0, regularization_factor=0.0, poly_power=1
    )
    optimizer = Optimizer(row, config, 1)
    optimizer.begin_step()
    (row @ row).backward()
    optimizer.apply()
    if row.is_cuda:
        torch.cuda.synchronize(row.device)
