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
from codes.results.statistics import median_interval, p_independent, p_paired, ratio_of_means, rejected
from codes.tuning.front import best_trials, metric_of, recommended
from codes.tuning.ledger import outcome_of
from codes.tuning.objective import Objective
from codes.tuning.outcomes import VALID, Outcome
from codes.tuning.warm_start import KNOWN

PREFIX = "certified:"
TIMES = f"{PREFIX}times"
FEWEST = 2  # trainings from new seeds of which a spread can be told
Cells = tuple[str, ...]


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

    def values(self, number: int, split: str) -> list[float]:
        """Accuracy of each new training of a trial on ``split``."""
        return [splits[split][self.metric] for splits in self.accuracies.get(number, {}).values()]

    def rows(self) -> list[Cells]:
        """For a table with the columns ``columns``."""
        return [self._row(trial) for trial in self.trials]

    @property
    def columns(self) -> Cells:
        """Names of the columns."""
        name = self.metric
        return ("trial", f"{name}, as chosen", "test, new seeds", "val, new seeds", "seeds", "inference time [ms]")

    def _row(self, trial: FrozenTrial) -> Cells:
        complete = outcome_of(trial) is Outcome.COMPLETE
        found = metric_of(trial, self.metric, self.objective) if complete else None
        notes = [note for number, note in ((self.chosen, "chosen"), (self.start, "start")) if number == trial.number]
        seconds = self.times.get(trial.number)
        failed = len(self.failed.get(trial.number, {}))
        return (
            f"{trial.number}{' (' + ', '.join(notes) + ')' if notes else ''}",
            "-" if found is None else f"{found:.3g}",
            _spread(self.values(trial.number, "test")),
            _spread(self.values(trial.number, "val")),
            f"{len(self.accuracies.get(trial.number, {}))}" + (f", {failed} failed" if failed else ""),
            "-" if seconds is None else _interval(seconds),
        )

    @cached_property
    def pairs(self) -> list[Pair]:
        """Neighbours on the front, or the best trial with each other one, as far as both are known well enough.

        Accuracies (on ``test``, by which trials are chosen) are compared by Welch's t-test on logarithms over the new
        seeds, times by Wilcoxon's signed-rank test over the rounds, all together at 5 % after Holm.
        """
        best = [trial.number for trial in best_trials(self.trials, self.objective)]
        compared = [(best[0], other) for other in best[1:]] if self.objective.is_single else [*pairwise(best)]
        p_values: dict[str, float] = {}
        for one, other in compared:
            a, b = self.values(one, "test"), self.values(other, "test")
            if min(len(a), len(b)) >= FEWEST:
                p_values[f"accuracy {one} {other}"] = p_independent(a, b)
            if not self.objective.is_single and one in self.times and other in self.times:
                p_values[f"time {one} {other}"] = p_paired(self.times[one], self.times[other])
        differ = rejected(p_values)
        return [Pair(one, other, self._verdict(one, other, p_values, differ)) for one, other in compared]

    def _verdict(self, one: int, other: int, tested: Mapping[str, float], differ: set[str]) -> str:
        by_accuracy, by_time = f"accuracy {one} {other}", f"time {one} {other}"
        if by_accuracy not in tested:
            return "not enough trainings to compare"
        if self.objective.is_single:
            return "differ" if by_accuracy in differ else "cannot be told apart"
        if by_time not in tested:
            return "not timed"
        names = [name for name, key in (("accuracy", by_accuracy), ("time", by_time)) if key in differ]
        if not names:
            return "cannot be told apart"
        if len(names) == 1:
            return f"differ in {names[0]} only"
        more_accurate = median(self.values(one, "test")) < median(self.values(other, "test"))
        faster = median(self.times[one]) < median(self.times[other])
        if more_accurate == faster:
            return f"trial {one if faster else other} is better in both"
        return "differ in both: a true trade-off"

    def comparisons(self) -> Iterator[tuple[Cells, list[Cells]]]:
        """Header and rows of a table of the ``pairs``, if there are any."""
        if self.pairs:
            yield (
                ("trial", "trial", "at 5 % in all"),
                [(str(pair.one), str(pair.other), pair.verdict) for pair in self.pairs],
            )

    def notes(self) -> list[str]:
        """Sentences below the tables: how to read them, what was gained, what to beware of."""
        seeds = "New seeds: median (least to greatest) of trainings that no choice has seen."
        lines = [f"{seeds} Times: median (95 % interval) for the whole test split."]
        better = "; ".join(self.improvement())
        if self.chosen is not None and self.chosen == self.start:
            lines.append(f"Trial {self.chosen}, where the study started, is still the best: nothing better was found.")
        if better:
            lines.append(f"Trial {self.chosen} against trial {self.start}, where the study started: {better}.")
        if "device" in self.timing:
            lines.append(f"Timed on {self.timing['device']} ({self.timing['model']}), {self.timing['on']}.")
        if "warning" in self.timing:
            lines.append(f"Beware: {self.timing['warning']}.")
        return lines

    def improvement(self) -> Iterator[str]:
        """How what was chosen compares with what the study started from: in accuracy over the new seeds, in time."""
        if self.chosen is None or self.start is None or self.chosen == self.start:
            return
        for split in ("test", "val"):
            before, now = self.values(self.start, split), self.values(self.chosen, split)
            if min(len(before), len(now)) >= FEWEST:
                ratio, low, high = ratio_of_means(before, now)
                yield _times(f"{self.metric} on {split}", ratio, low, high)
        if self.chosen in self.times and self.start in self.times:
            rounds = zip(self.times[self.chosen], self.times[self.start], strict=True)
            ratios = [now / before for now, before in rounds]
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


def read_certificate(study: optuna.Study, trials: Sequence[FrozenTrial], objective: Objective) -> Certificate | None:
    """What is kept in ``study``; None where nothing was certified."""
    attributes = study.user_attrs
    accuracies: dict[int, dict[int, Any]] = {}
    failed: dict[int, dict[int, str]] = {}
    for key, value in attributes.items():
        if key.startswith(PREFIX) and key != TIMES:
            number, seed = map(int, key.removeprefix(PREFIX).split(":"))
            kind: dict[int, dict[int, Any]] = failed if "failed" in value else accuracies
            kind.setdefault(number, {})[seed] = value.get("failed", value)
    timing = attributes.get(TIMES, {})
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


def _spread(values: Sequence[float]) -> str:
    if not values:
        return "-"
    return f"{median(values):.3g} ({min(values):.3g}-{max(values):.3g})"


def _times(what: str, ratio: float, low: float, high: float) -> str:
    return f"{what} is {ratio:.3g} times that of the start (95 % interval {low:.3g} to {high:.3g})"


def _interval(seconds: Sequence[float]) -> str:
    low, high = median_interval(seconds)
    return f"{1e3 * median(seconds):.3g} ({1e3 * low:.3g}-{1e3 * high:.3g})"
