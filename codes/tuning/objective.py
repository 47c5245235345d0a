"""What a study optimises."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from omegaconf import DictConfig
from optuna.pruners import BasePruner, HyperbandPruner, NopPruner

from codes.errors import UserError
from codes.metrics import METRICS, direction
from codes.tuning.outcomes import Outcome, Verdict

ACCURACY = ("lae99", "mlae", "mae", "mse")
MEASURED_LAST = {"inference_time"}  # unknown before a training ends, so that no pruner can follow it


@dataclass(frozen=True)
class Objective:
    """The metrics that are optimised, and the epoch at which a training ends anyway."""

    metrics: tuple[str, ...]
    epochs: int

    @property
    def directions(self) -> list[Literal["minimize", "maximize"]]:
        """``minimize`` or ``maximize`` for each metric."""
        return [direction(name) for name in self.metrics]

    @property
    def is_single(self) -> bool:
        """One metric: the only case in which Optuna can prune."""
        return len(self.metrics) == 1

    def values(self, metrics: Mapping[str, float]) -> list[float]:
        """The optimised values out of all ``metrics``."""
        return [metrics[name] for name in self.metrics]

    def check(self, verdict: Verdict) -> Verdict:
        """``verdict``, unless it is complete and its values cannot be told: NaN has diverged, missing has failed."""
        if verdict.outcome is not Outcome.COMPLETE:
            return verdict
        missing = [name for name in self.metrics if name not in verdict.metrics]
        if missing:
            reason = f"the training returned no {', '.join(missing)}, only {', '.join(verdict.metrics)}"
            return Verdict(Outcome.FAILED, reason, verdict.metrics, verdict.duration)
        broken = [name for name in self.metrics if not math.isfinite(verdict.metrics[name])]
        if broken:
            reason = f"{broken[0]} is {verdict.metrics[broken[0]]}"
            return Verdict(Outcome.DIVERGED, reason, verdict.metrics, verdict.duration)
        return verdict

    def capped(self, loss_cap: float, metrics: Mapping[str, float]) -> list[float]:
        """Values of a trial that was stopped because it would take too long, from the ``metrics`` it had then.

        An accuracy is ``loss_cap``, or what it was if that is worse; the inference time is the seconds that it trained.
        Whatever else is known stays.
        """
        known = {**metrics, "inference_time": metrics["train_time"]}
        capped = {name: max(loss_cap, metrics[name]) for name in ACCURACY if name in metrics}
        return [{**known, **capped}[name] for name in self.metrics]


def read_objective(config: DictConfig) -> Objective:
    """``config.objective``, checked: at least one metric, none twice."""
    metrics = tuple(config.objective.metrics)
    if not metrics or len(set(metrics)) < len(metrics):
        raise UserError(
            f"objective.metrics must name at least one metric, each once, but is {list(metrics)}; "
            f"choose from {', '.join(METRICS)}"
        )
    return Objective(metrics, config.trainer.epochs)


def check_pruner(pruner: BasePruner, objective: Objective, section: DictConfig) -> None:
    """Refuse a pruner that cannot do its work, with the reason; ``section`` is its config."""
    if isinstance(pruner, NopPruner):
        return
    name = type(pruner).__name__
    if not objective.is_single:
        raise UserError(
            f"pruner: {name} needs a single objective, but objective.metrics is {list(objective.metrics)}; "
            "set pruner=none (and sampler=nsgaii)"
        )
    if objective.metrics[0] in MEASURED_LAST:
        raise UserError(
            f"pruner: {name} cannot follow {objective.metrics[0]}, measured after training; set pruner=none"
        )
    if isinstance(pruner, HyperbandPruner):
        _check_hyperband(section.min_resource, section.max_resource, section.reduction_factor)


def _check_hyperband(low: int, high: int, factor: int) -> None:
    if not (1 <= low <= high and factor >= 2):
        raise UserError(
            "pruner: hyperband needs 1 <= min_resource <= max_resource (epochs) and reduction_factor >= 2, "
            f"but has min_resource={low}, max_resource={high}, reduction_factor={factor}"
        )


def first_looks(section: DictConfig) -> Sequence[int]:
    """Epochs at which the brackets of Hyperband first prune: ``min_resource * reduction_factor ** bracket``."""
    looks = [int(section.min_resource)]
    while looks[-1] * section.reduction_factor <= section.max_resource:
        looks.append(looks[-1] * section.reduction_factor)
    return looks
