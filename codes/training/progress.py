"""How far one training has come: its history, and the weights that it will return."""

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from codes.data import PreparedData
from codes.errors import Diverged
from codes.metrics import accuracy_of, direction
from codes.schema import TrainConfig
from codes.surrogates.base import Surrogate
from codes.surrogates.row import flattened, lay_out
from codes.training.evaluation import evaluate
from codes.training.latency import FEWEST_REPEATS, Latency, measure_latency
from codes.training.optim import Optimizer

log = logging.getLogger(__name__)
LARGEST_SHARE = 1 / 200  # of a training, that measuring its inference time takes where that is no objective

Report = Callable[[int, dict[str, float]], None]


@dataclass
class TrainResult:
    """A finished training.

    ``metrics``: accuracy of the kept weights on the ``test`` split, and costs, by the names of ``codes.metrics``.
    ``history``: a row per evaluation: ``epoch``, ``train_loss`` (mean over that epoch), the accuracy on ``test``,
    ``learning_rate``, ``seconds`` (of training so far). ``model``: in evaluation mode, with the weights of ``epoch``.
    """

    metrics: dict[str, float]
    history: list[dict[str, float]]
    model: Surrogate
    epoch: int
    latency: Latency
    seconds: float


@dataclass
class Kept:
    """The weights that the training will return, so far."""

    epoch: int
    metrics: dict[str, float]
    weights: dict[str, Tensor]


class Progress:
    """Everything of a training but its steps: what was seen after ``epoch`` epochs and ``seconds`` of steps.

    The weights of ``model`` are parts of ``row`` from here on, and their gradients of its gradient.
    """

    def __init__(self, config: TrainConfig, data: PreparedData, model: Surrogate, n_steps: int) -> None:
        self.config, self.trainer, self.data = config, config.trainer, data
        self.model, self.row = model, nn.Parameter(flattened(model))
        self.row.grad = torch.zeros_like(self.row)
        lay_out(model, self.row.data, self.row.grad)
        self.optimizer = Optimizer(self.row, config.surrogate, n_steps)
        self.order = torch.Generator().manual_seed(config.seed)
        self.epoch = 0
        self.seconds = 0.0
        self.history: list[dict[str, float]] = []
        self.kept: Kept | None = None
        self.chosen_by = accuracy_of(config.objective.metrics)

    @property
    def is_evaluated(self) -> bool:
        """Whether this epoch ends with an evaluation."""
        return self.epoch % self.trainer.evaluate_every == 0 or self.epoch == self.trainer.epochs

    def check(self, loss: float) -> None:
        """Stop at a loss that is not a number."""
        if not math.isfinite(loss):
            raise Diverged(f"diverged: the loss is {loss} in epoch {self.epoch + 1}")

    def evaluate(self, loss: float, report: Report | None) -> None:
        """Add a row to the history, keep the weights if they are to be kept, and report."""
        with self.optimizer.evaluating():
            metrics = evaluate(
                self.model, self.data.test, self.data.t, self.data.transform, self.trainer.target_percentile
            )
            if self.is_to_keep(metrics):
                weights = {name: value.detach().clone() for name, value in self.model.state_dict().items()}
                self.kept = Kept(self.epoch, metrics, weights)
        rate = self.optimizer.learning_rate
        row = {"epoch": self.epoch, "train_loss": loss, **metrics, "learning_rate": rate, "seconds": self.seconds}
        self.history.append(row)
        log.debug(", ".join(f"{name} {value:.6g}" for name, value in row.items()))
        if report is not None:
            report(self.epoch, {**metrics, **self.costs, **self.early_latency})

    def is_to_keep(self, metrics: dict[str, float]) -> bool:
        """Whether these are the last weights, or the best so far."""
        if self.trainer.keep == "last":
            return self.epoch == self.trainer.epochs
        if self.kept is None:
            return True
        new, old = metrics[self.chosen_by], self.kept.metrics[self.chosen_by]
        return new < old if direction(self.chosen_by) == "minimize" else new > old

    @property
    def costs(self) -> dict[str, float]:
        """Costs that are known at any time."""
        n_parameters = sum(parameter.numel() for parameter in self.model.parameters() if parameter.requires_grad)
        return {"train_time": self.seconds, "n_parameters": n_parameters}

    @property
    def is_latency_sought(self) -> bool:
        """Whether the inference time is an objective."""
        return "inference_time" in self.config.objective.metrics

    @cached_property
    def early_latency(self) -> dict[str, float]:
        """Inference time at the first evaluation, where it is an objective: a pruner cannot wait for the last one."""
        if not self.is_latency_sought:
            return {}
        latency = measure_latency(self.model, self.data.test, self.data.t, FEWEST_REPEATS)
        return {"inference_time": latency.median}

    def result(self) -> TrainResult:
        """Load the kept weights and measure what they cost."""
        assert self.kept is not None  # the last epoch is always evaluated
        self.model.load_state_dict(self.kept.weights)
        self.model.eval()
        longest = math.inf if self.is_latency_sought else LARGEST_SHARE * self.seconds
        repeats = self.trainer.latency_repeats
        latency = measure_latency(self.model, self.data.test, self.data.t, repeats, longest)
        metrics = {**self.kept.metrics, "inference_time": latency.median, **self.costs}
        return TrainResult(metrics, self.history, self.model, self.kept.epoch, latency, self.seconds)
