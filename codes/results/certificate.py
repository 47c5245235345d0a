"""What a certification found, read from the study that keeps it: spread over seeds, times, and which trials differ.

Everything stands in user attributes of the study: ``certified:<trial>:<seed>`` of one training from a new seed,
``certified:times`` of the last timing.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from statistics import median
from typing import Any

import optuna
from optuna.trial import FrozenTrial

from codes.metrics import accuracy_of
from codes.results.remeasured import FEWEST, HOW, Cells, Remeasured, columns, how_timed, verdicts
from codes.results.statistics import median_interval, ratio_of_means
from codes.tuning.front import best_trials, metric_of, recommended
from codes.tuning.ledger import outcome_of
from codes.tuning.objective import Objective
from codes.tuning.outcomes import VALID, Outcome
from codes.tuning.warm_start import KNOWN

PREFIX = "certified:"
TIMES = f"{PREFIX}times"


@dataclass(frozen=True)
class Pair:
    """Two trials of the front that are neighbours, or the best trial and another; what holds of them."""

    one: int
    other: int
    verdict: str


@dataclass(frozen=True)
class Certificate:
    """What is known of the trials that were certified.

    ``accuracies`` by trial and seed, each with the splits ``test`` and ``val`` of that training, by metric; ``failed``
    has the trainings without one, with the reason. ``times``: seconds to predict the test split, by trial, one for
    each round; trials share the rounds. ``chosen``, ``start``: the trial that the study recommends, and the one that
    it started from.
    """

    objective: Objective
    trials: tuple[FrozenTrial, ...]
    accuracies: Mapping[int, Mapping[int, Mapping[str, Mapping[str, float]]]]
    failed: Mapping[int, Mapping[int, str]]
    times: Mapping[int, Sequence[float]]
    timing: Mapping[str, Any]
    chosen: int | None
    start: int | None

    @cached_property
    def metric(self) -> str:
        """The accuracy that is compared."""
        return accuracy_of(self.objective.metrics)

    @cached_property
    def again(self) -> dict[int, Remeasured]:
        """What is known of each trial, by number."""
        return {trial.number: self._again(trial) for trial in self.trials}

    def _again(self, trial: FrozenTrial) -> Remeasured:
        complete, number = outcome_of(trial) is Outcome.COMPLETE, trial.number
        return Remeasured(
            name=f"trial {number}",
            metric=self.metric,
            as_chosen=metric_of(trial, self.metric, self.objective) if complete else None,
            accuracies=self.accuracies.get(number, {}),
            failed=self.failed.get(number, {}),
            seconds=self.times.get(number, ()),
        )

    def rows(self) -> list[Cells]:
        """For a table with the columns ``columns``."""
        return [(self._label(number), *again.cells()) for number, again in self.again.items()]

    @property
    def columns(self) -> Cells:
        """Names of the columns."""
        return ("trial", *columns(self.metric))

    def _label(self, number: int) -> str:
        notes = [note for of, note in ((self.chosen, "chosen"), (self.start, "start")) if of == number]
        return f"{number} ({', '.join(notes)})" if notes else f"{number}"

    @cached_property
    def pairs(self) -> list[Pair]:
        """Neighbours on the front, or the best trial with each other one; on ``test``, by which they are chosen."""
        best = [trial.number for trial in best_trials(self.trials, self.objective)]
        compared = [(best[0], other) for other in best[1:]] if self.objective.is_single else [*pairwise(best)]
        both = [(self.again[one], self.again[other]) for one, other in compared]
        told = verdicts(both, "test", by_time=not self.objective.is_single)
        return [Pair(*pair, verdict) for pair, verdict in zip(compared, told, strict=True)]

    def comparisons(self) -> Iterator[tuple[Cells, list[Cells]]]:
        """Header and rows of a table of the ``pairs``, if there are any."""
        if self.pairs:
            yield (
                ("trial", "trial", "at 5 % in all"),
                [(str(pair.one), str(pair.other), pair.verdict) for pair in self.pairs],
            )

    def notes(self) -> list[str]:
        """Sentences below the tables: how to read them, what was gained, what to beware of."""
        lines = [HOW]
        better = "; ".join(self.improvement())
        if self.chosen is not None and self.chosen == self.start:
            lines.append(f"Trial {self.chosen}, where the study started, is still the best: nothing better was found.")
        if better:
            lines.append(f"Trial {self.chosen} against trial {self.start}, where the study started: {better}.")
        return [*lines, *how_timed(self.timing)]

    def improvement(self) -> Iterator[str]:
        """How what was chosen compares with what the study started from: in accuracy over the new seeds, in time."""
        if self.chosen is None or self.start is None or self.chosen == self.start:
            return
        start, chosen = self.again.get(self.start), self.again.get(self.chosen)
        if start is None or chosen is None:  # the study went on
            return
        for split in ("test", "val"):
            before, now = start.values(split), chosen.values(split)
            if min(len(before), len(now)) >= FEWEST:
                ratio, low, high = ratio_of_means(before, now)
                yield _times(f"{self.metric} on {split}", ratio, low, high)
        if chosen.seconds and start.seconds:
            ratios = [now / before for now, before in zip(chosen.seconds, start.seconds, strict=True)]
            yield _times("inference_time", median(ratios), *median_interval(ratios))


def certified_trials(trials: Sequence[FrozenTrial], objective: Objective, k: int) -> list[FrozenTrial]:
    """The ``k`` best trials of a single objective, or the Pareto front; then what the study started from, if known."""
    best = best_trials(trials, objective)
    chosen = best[:k] if objective.is_single else best
    start = start_of(trials)
    return chosen if start is None or start in chosen else [*chosen, start]


def start_of(trials: Sequence[FrozenTrial]) -> FrozenTrial | None:
    """What a study tried first and knew to be good: the composed configuration, or the same with optimal=off."""
    return next((trial for trial in trials if KNOWN in trial.user_attrs and outcome_of(trial) in VALID), None)


def trainings(study: optuna.Study) -> tuple[dict[int, dict[int, Any]], dict[int, dict[int, str]]]:
    """Of all trainings from new seeds: accuracies by trial and seed, by split and metric; and why others failed."""
    accuracies: dict[int, dict[int, Any]] = {}
    failed: dict[int, dict[int, str]] = {}
    for key, value in study.user_attrs.items():
        if key.startswith(PREFIX) and key != TIMES:
            number, seed = map(int, key.removeprefix(PREFIX).split(":"))
            kind: dict[int, dict[int, Any]] = failed if "failed" in value else accuracies
            kind.setdefault(number, {})[seed] = value.get("failed", value)
    return accuracies, failed


def read_certificate(study: optuna.Study, trials: Sequence[FrozenTrial], objective: Objective) -> Certificate | None:
    """What is kept in ``study``; None where nothing was certified."""
    accuracies, failed = trainings(study)
    timing = study.user_attrs.get(TIMES, {})
    times = {int(number): seconds for number, seconds in timing.get("seconds", {}).items()}
    known = {*accuracies, *failed, *times}
    if not known:
        return None
    best = best_trials(trials, objective)
    start = start_of(trials)
    ranked = [trial for trial in best if trial.number in known]
    ranked += [trial for trial in trials if trial.number in known and trial not in best]
    chosen = recommended(best, objective).number if best else None
    first = start.number if start is not None else None
    return Certificate(objective, tuple(ranked), accuracies, failed, times, timing, chosen, first)


def _times(what: str, ratio: float, low: float, high: float) -> str:
    return f"{what} is {ratio:.3g} times that of the start (95 % interval {low:.3g} to {high:.3g})"
