"""What a study optimises."""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from omegaconf import DictConfig
from optuna.pruners import BasePruner, HyperbandPruner, NopPruner

from codes.errors import UserError
from codes.limits import check_value
from codes.metrics import ACCURACY, METRICS, direction
from codes.tuning.outcomes import Outcome, Verdict
from codes.tuning.pruners import ParetoHalving

log = logging.getLogger(__name__)

MEASURED_LAST = {"inference_time"}  # the same at each evaluation, so that a pruner of it alone learns nothing


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

    def losses(self, values: Sequence[float]) -> tuple[float, ...]:
        """The optimised ``values``, those that are maximised with the opposite sign: less is better."""
        pairs = zip(values, self.directions, strict=True)
        return tuple(-value if direction == "maximize" else value for value, direction in pairs)

    def check(self, verdict: Verdict) -> Verdict:
        """``verdict``, unless it is complete and its values cannot be told: NaN has diverged, missing has failed."""
        if verdict.outcome is not Outcome.COMPLETE:
            return verdict
        missing = [name for name in self.metrics if name not in verdict.metrics]
        if missing:
            reason = f"the training returned no {', '.join(missing)}, only {', '.join(verdict.metrics)}"
            return replace(verdict, outcome=Outcome.FAILED, reason=reason)
        broken = [name for name in self.metrics if not math.isfinite(verdict.metrics[name])]
        if broken:
            reason = f"{broken[0]} is {verdict.metrics[broken[0]]}"
            return replace(verdict, outcome=Outcome.DIVERGED, reason=reason)
        return verdict

    def told(self, verdict: Verdict, loss_cap: float) -> list[float]:
        """What Optuna is told of a trial as its values; of most that are not complete nothing.

        Of several objectives also a trial that was pruned counts, with its last values, and one too slow, with capped
        ones: genetic algorithms learn from nothing else.
        """
        if verdict.outcome is Outcome.COMPLETE:
            return self.values(verdict.metrics)
        if self.is_single:
            return []
        if verdict.outcome is Outcome.TIME_PRUNED and "train_time" in verdict.metrics:  # else it made no evaluation
            return self.capped(loss_cap, verdict.metrics)
        if verdict.outcome is Outcome.PRUNED and self.are_in(verdict.metrics):
            return self.values(verdict.metrics)
        return []

    def are_in(self, metrics: Mapping[str, float]) -> bool:
        """Whether ``metrics`` has all that are optimised."""
        return all(name in metrics for name in self.metrics)

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


def check_pruner(pruner: BasePruner, objective: Objective, config: DictConfig) -> None:
    """Refuse a pruner that cannot do its work in the study of ``config``, with the reason."""
    if isinstance(pruner, NopPruner):
        return
    name = type(pruner).__name__
    if isinstance(pruner, ParetoHalving):
        _check_halving(pruner, objective, config)
        return
    if not objective.is_single:
        raise UserError(
            f"pruner: {name} needs a single objective, but objective.metrics is {list(objective.metrics)}; "
            "set pruner=pareto_halving or pruner=none"
        )
    if objective.metrics[0] in MEASURED_LAST:
        raise UserError(
            f"pruner: {name} cannot follow {objective.metrics[0]}, which no training improves; set pruner=none"
        )
    if isinstance(pruner, HyperbandPruner):
        for key in ("min_resource", "max_resource", "reduction_factor"):
            check_value(f"pruner.{key}", config.pruner[key], int)
        _check_hyperband(config.pruner.min_resource, config.pruner.max_resource, config.pruner.reduction_factor)
        _check_looks("hyperband", config.pruner.min_resource, config)
        _check_budget(bracket_sizes(config.pruner), config.trials)


def _check_hyperband(low: int, high: int, factor: int) -> None:
    if not (1 <= low <= high and factor >= 2):
        raise UserError(
            "pruner: hyperband needs 1 <= min_resource <= max_resource (epochs) and reduction_factor >= 2, "
            f"but has min_resource={low}, max_resource={high}, reduction_factor={factor}"
        )


def _check_halving(pruner: ParetoHalving, objective: Objective, config: DictConfig) -> None:
    if objective.is_single:
        raise UserError(
            f"pruner: pareto_halving needs several objectives, but objective.metrics is {list(objective.metrics)}; "
            "set pruner=hyperband"
        )
    _check_looks("pareto_halving", pruner.min_resource, config)


def _check_looks(name: str, low: int, config: DictConfig) -> None:
    epochs, evaluate_every = config.trainer.epochs, config.trainer.evaluate_every
    first = evaluate_every * math.ceil(low / evaluate_every)
    if first >= epochs:
        raise UserError(
            f"pruner: {name} needs an evaluation before the last epoch, but with trainer.epochs={epochs}, "
            f"trainer.evaluate_every={evaluate_every} and pruner.min_resource={low} the first one that counts is at "
            f"epoch {first}; set trainer.evaluate_every=1, train longer, or set pruner=none"
        )


def _check_budget(sizes: Sequence[int], trials: int) -> None:
    if trials < 2:
        raise UserError(f"pruner: hyperband compares trials with each other, but trials is {trials}; set pruner=none")
    if trials < sum(sizes):
        log.warning(
            "pruner=hyperband compares trials within its brackets, which take %s of each %d trials: "
            "trials=%d is less than one round; pruner=median compares all of them",
            ", ".join(map(str, sizes)),
            sum(sizes),
            trials,
        )


def first_looks(section: DictConfig) -> Sequence[int]:
    """Epochs at which the brackets of Hyperband first prune: ``min_resource * reduction_factor ** bracket``."""
    brackets = math.floor(math.log(section.max_resource / section.min_resource, section.reduction_factor)) + 1
    return [section.min_resource * section.reduction_factor**bracket for bracket in range(brackets)]


def bracket_sizes(section: DictConfig) -> Sequence[int]:
    """Trials that each bracket takes in a round, the one that prunes first before the others; as Optuna shares them.

    With ``n`` brackets and a reduction factor ``f``, bracket ``i`` takes ``ceil(n f**s / (s + 1))``, ``s = n - 1 - i``.
    """
    brackets = len(first_looks(section))
    return [math.ceil(brackets * section.reduction_factor**s / (s + 1)) for s in reversed(range(brackets))]
