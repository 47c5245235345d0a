"""A study as its report sees it: read once, so that a page agrees with itself while the study goes on."""

import copy
import datetime
import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from optuna.trial import FrozenTrial

from codes.errors import StopTraining, UserError
from codes.metrics import METRICS, seconds, unit_of
from codes.results.opening import Kept
from codes.results.scores import scores
from codes.tuning.entries import read_space
from codes.tuning.front import best_trials, metric_of, recommended
from codes.tuning.ledger import outcome_of, record_of
from codes.tuning.outcomes import VALID, Outcome
from codes.tuning.space import Space

RUNNING, WAITING = "running", "waiting"  # of trials without an outcome
Span = tuple[datetime.datetime, datetime.datetime]
COST = "inference_time"  # what is set against an accuracy where nothing else is optimised


@dataclass(frozen=True)
class Findings:
    """A study and its trials at the time ``read``; of ``Kept`` only what does not change is used any more."""

    kept: Kept
    trials: tuple[FrozenTrial, ...]
    read: datetime.datetime

    @cached_property
    def space(self) -> Space:
        """What is tuned, parents first."""
        return read_space(copy.deepcopy(self.kept.config))

    @cached_property
    def complete(self) -> list[FrozenTrial]:
        """The results; others, even if Optuna has values of them, are none."""
        return [trial for trial in self.trials if outcome_of(trial) is Outcome.COMPLETE]

    @cached_property
    def best(self) -> list[FrozenTrial]:
        """The results, best first; of several objectives the Pareto front."""
        return best_trials(self.trials, self.kept.objective)

    @property
    def chosen(self) -> FrozenTrial | None:
        """The best trial, or the knee of the front; None before there is a result."""
        if not self.best:
            return None
        return recommended(self.best, self.kept.objective)

    @cached_property
    def both_scores(self) -> dict[str, dict[str, float]]:
        """Accuracy of ``chosen`` on ``test`` and on ``val``; raises what ``codes.results.scores`` does."""
        assert self.chosen is not None
        return scores(self.kept, self.chosen)

    @cached_property
    def held_out(self) -> dict[str, float]:
        """Accuracy of ``chosen`` on ``val`` by metric; empty where it is ``unscored``."""
        return {} if self.unscored else self.both_scores["val"]

    @cached_property
    def unscored(self) -> str:
        """Why ``chosen`` has no score on ``val``; empty where it has one."""
        try:
            _ = self.both_scores
        except (UserError, StopTraining) as error:
            return str(error)
        return ""

    @property
    def valid(self) -> int:
        """Trials that count against the budget."""
        return sum(outcome_of(trial) in VALID for trial in self.trials)

    @property
    def target(self) -> int:
        """Valid trials that the study is to have; not fewer than it has, though fewer were asked for since."""
        return max(self.valid, self.kept.config.trials)

    @property
    def surrogate(self) -> str:
        """Family that was tuned."""
        return str(self.kept.config.surrogate.name)

    @property
    def axes(self) -> tuple[str, str]:
        """Two metrics to set against each other: the first two objectives, or the only one and the time it costs."""
        first, *others = self.kept.objective.metrics
        return (first, others[0]) if others else (first, COST if first != COST else "n_parameters")

    def value(self, metric: str, trial: FrozenTrial) -> float:
        """``metric`` of a complete trial; NaN where it is not known."""
        found = metric_of(trial, metric, self.kept.objective)
        return math.nan if found is None else found

    def label(self, metric: str) -> str:
        """Name of ``metric`` with its unit, for an axis."""
        unit = self.unit(metric)
        return f"{metric} [{unit}]" if unit else metric

    def unit(self, metric: str) -> str:
        """Unit of ``metric`` for this study's data."""
        return unit_of(metric, self.kept.config.dataset.log10_transform)

    def quantity(self, metric: str, value: float) -> str:
        """``value`` as a text with its unit: ``0.03 dex``, ``1.2 ms``, ``12,345``."""
        if self.unit(metric) == "s":
            return seconds(value, 3)
        if METRICS[metric].unit == "":
            return f"{value:,.0f}"
        return f"{value:.3g} {self.unit(metric)}"


def read(kept: Kept) -> Findings:
    """The study ``kept`` as it is now; nothing is locked or written."""
    return Findings(kept, tuple(kept.trials()), datetime.datetime.now())


def ended_as(trial: FrozenTrial) -> str:
    """Outcome of ``trial``, or what it is doing."""
    outcome = outcome_of(trial)
    return outcome.value if outcome else trial.state.name.lower()


def span_of(trial: FrozenTrial, now: datetime.datetime) -> Span:
    """When ``trial`` started and ended; ``now`` where that is yet to come.

    When a dead coordinator's trial ended nobody knows: it was closed by the next launch, perhaps the next morning. For
    pictures it ended when it began, as one does during which the system's clock stepped back.
    """
    start = trial.datetime_start or now
    if ended_as(trial) == Outcome.CRASHED.value and not record_of(trial).get("duration"):
        return start, start
    return start, max(start, trial.datetime_complete or now)


def metrics_of(trial: FrozenTrial) -> dict[str, float]:
    """Every metric known of ``trial`` when it ended; those of a trial that was stopped are from before its end."""
    known: dict[str, Any] = record_of(trial).get("metrics") or {}
    return {name: float(value) for name, value in known.items()}
