"""What the studies reached, and when: scores over time, differences between arms with intervals."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.search import studies
from benchmarks.search.problems import PROBLEMS, Cell, Problem
from benchmarks.search.studies import ARMS, LETTERS, charged, stretch
from benchmarks.search.table import Table, Training
from codes.tuning.outcomes import Outcome

Array = NDArray[np.float64]
TIMES = np.arange(1, 61) / 60  # shares of the budget
THIRD, END = 19, 59
REFERENCE = "NSGA-II, population 50"
DRAWS = 2000
OUTCOMES = {letter: outcome for outcome, letter in LETTERS.items()}


def hypervolume(points: Sequence[tuple[float, float]], reference: tuple[float, float]) -> float:
    """Area between ``reference`` and what ``points`` dominate; less is better in both coordinates."""
    area, height = 0.0, reference[1]
    for x, y in sorted(points):
        if x < reference[0] and y < height:
            area += (reference[0] - x) * (height - y)
            height = y
    return area


@dataclass(frozen=True)
class Ended:
    """A trial that has ended: at which share of the budget, how, and with which training."""

    time: float
    outcome: Outcome
    training: Training
    cell: Cell


class Scorer:
    """Scores of the studies of one problem; more is better.

    ``lae99``: minus the decimal logarithm of the lowest LAE99. ``dual``: the area that the front dominates in the
    logarithms of LAE99 and inference time, as a share of a box: from the best of either in the table to the median
    LAE99 and the slowest architecture. The sampler has seen inference times as they were measured, each once, under
    whatever load; here counts the median over all trainings of an architecture. Only complete trials count.
    """

    def __init__(self, problem: Problem, table: Table) -> None:
        self.problem = problem
        self.stretch = stretch(problem, table)
        self.trainings = list(table.of(problem.name).items())
        self.latencies = table.latencies(problem)
        errors = [training.best for _, training in self.trainings if training.best is not None]
        times = self.latencies.values()
        self.ideal = np.log([min(errors), min(times)])
        self.worst = np.log([float(np.median(errors)), max(times)])
        self.start = -math.log10(max(errors))

    def ended(self, row: Mapping[str, Any]) -> Iterator[Ended]:
        """Trials of a line of results."""
        clock = 0.0
        for text, asked in zip(row["trials"].split(), row["asked"], strict=True):
            number, letter, looks = _parse(text)
            (cell, _), training = self.trainings[number]
            clock += charged(training, looks) * self.stretch + asked / 1e3
            yield Ended(clock / studies.BUDGET, OUTCOMES[letter], training, cell)

    def curve(self, row: Mapping[str, Any]) -> Array:
        """Score of a study at ``TIMES``."""
        ended = list(self.ended(row))
        reached = self._errors(ended) if row["goal"] == "lae99" else self._areas(ended)
        index = np.searchsorted([trial.time for trial in ended], TIMES, side="right")
        return np.array(reached)[index]

    def _errors(self, ended: Sequence[Ended]) -> list[float]:
        scores = [-math.log10(trial.training.best or math.inf) if _counts(trial) else self.start for trial in ended]
        return list(accumulate(scores, max, initial=self.start))

    def _areas(self, ended: Sequence[Ended]) -> list[float]:
        areas, points = [0.0], list[tuple[float, float]]()
        for trial in ended:
            if _counts(trial):
                points.append(self._place(trial))
                areas.append(hypervolume(points, (1.0, 1.0)))
            else:
                areas.append(areas[-1])
        return areas

    def _place(self, trial: Ended) -> tuple[float, float]:
        """Where a trial lies in the box: (0, 0) is ideal, (1, 1) its worst corner."""
        seconds = self.latencies[self.problem.architecture(trial.cell)]
        error, time = (np.log([trial.training.best or math.inf, seconds]) - self.ideal) / (self.worst - self.ideal)
        return float(error), float(time)


def _counts(trial: Ended) -> bool:
    return trial.outcome is Outcome.COMPLETE


def _parse(text: str) -> tuple[int, str, int]:
    letter = next(sign for sign in text if sign.isalpha())
    number, looks = text.split(letter)
    return int(number), letter, int(looks)


@dataclass(frozen=True)
class Interval:
    """A mean, and the middle 95 % of what it is when seeds are drawn anew."""

    value: float
    low: float
    high: float

    def map(self, function: Callable[[float], float]) -> "Interval":
        """The interval of a monotonic ``function`` of it."""
        low, high = sorted((function(self.low), function(self.high)))
        return Interval(function(self.value), low, high)


@dataclass(frozen=True)
class Compared:
    """An arm and the reference, each ``[problem, seed, time]``, seed by seed on the same problems."""

    arm: Array
    reference: Array

    @cached_property
    def _draws(self) -> Array:
        """Mean difference over time ``[draw, time]`` to the reference's end, with seeds drawn anew in each problem.

        The first draw is what was observed.
        """
        problems, seeds, _ = self.arm.shape
        random = np.random.default_rng(0).integers(seeds, size=(DRAWS, problems, seeds))
        drawn = np.concatenate([np.arange(seeds) * np.ones((1, problems, 1), int), random])
        each = np.arange(problems)[:, None]
        lead = self.arm - self.reference[:, :, -1:]
        return np.stack([lead[each, seed].mean((0, 1)) for seed in drawn])

    def lead(self, time: int) -> Interval:
        """Mean difference at ``TIMES[time]`` to what the reference reaches at its end."""
        return _interval(self._draws[:, time])

    def gain(self, time: int) -> Interval:
        """Mean difference between arm and reference at the same time."""
        return _interval(Compared(self.arm[..., time, None], self.reference[..., time, None])._draws[:, 0])

    def time_to_reference(self) -> Interval:
        """Share of the budget after which the mean first is what the reference reaches at its end; infinite: never."""
        reached = self._draws >= 0
        return _interval(np.where(reached.any(1), TIMES[reached.argmax(1)], math.inf))


def _interval(draws: Array) -> Interval:
    """Of draws whose first is the observation; by ranks, for some may be infinite."""
    low, high = np.sort(draws[1:])[[round(0.025 * (len(draws) - 2)), round(0.975 * (len(draws) - 2))]]
    return Interval(float(draws[0]), float(low), float(high))


class Results:
    """Curves of all studies ``[problem, seed, time]``, for the seeds that an arm has on all problems."""

    def __init__(self, rows: Sequence[Mapping[str, Any]], table: Table) -> None:
        self.curves: dict[tuple[str, str], Array] = {}
        scorers = {problem.name: Scorer(problem, table) for problem in PROBLEMS}
        curves = {_key(row): scorers[row["problem"]].curve(row) for row in rows}
        self.rows = {_key(row): row for row in rows}
        for goal, arms in ARMS.items():
            for arm in arms:
                seeds = [[(name, goal, arm, seed) for name in scorers] for seed in range(len(rows))]
                whole = [keys for keys in seeds if all(key in curves for key in keys)]
                if whole:
                    self.curves[goal, arm] = np.array([[curves[key] for key in keys] for keys in whole]).swapaxes(0, 1)

    def compared(self, goal: str, arm: str, reference: str = REFERENCE) -> Compared:
        """Two arms over the seeds that both have: the first ones."""
        one, other = self.curves[goal, arm], self.curves[goal, reference]
        seeds = min(one.shape[1], other.shape[1])
        return Compared(one[:, :seeds], other[:, :seeds])

    def mean_of(self, goal: str, arm: str, field: str) -> float:
        """Mean number of ``trials`` of a study, or of milliseconds ``asked`` for each."""
        rows = [row for (_, *of, _), row in self.rows.items() if of == [goal, arm]]
        trials = sum(len(row["asked"]) for row in rows)
        return trials / len(rows) if field == "trials" else sum(sum(row["asked"]) for row in rows) / trials


def latency_noise(table: Table) -> tuple[float, float]:
    """5th and 95th percentile of measured inference times, each divided by the median of its architecture."""
    ratios = []
    for problem in PROBLEMS:
        medians = table.latencies(problem)
        for (cell, _), training in table.of(problem.name).items():
            if training.latency is not None:
                ratios.append(training.latency / medians[problem.architecture(cell)])
    low, high = np.percentile(ratios, [5, 95])
    return float(low), float(high)


def _key(row: Mapping[str, Any]) -> tuple[str, str, str, int]:
    return row["problem"], row["goal"], row["arm"], row["seed"]
