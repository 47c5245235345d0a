"""What several studies recommend, measured side by side: one process, the same seeds, the same rounds.

Each of the studies keeps its part, the user attribute ``side_by_side``; trainings from new seeds are those of its
certificate.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Any

from optuna.trial import FrozenTrial

from codes.metrics import accuracy_of
from codes.results.certificate import trainings
from codes.results.opening import Kept
from codes.results.remeasured import HOW, Cells, Remeasured, columns, how_timed, verdicts
from codes.tuning.front import best_trials, metric_of, recommended
from codes.tuning.ledger import outcome_of
from codes.tuning.outcomes import Outcome

SIDE_BY_SIDE = "side_by_side"


@dataclass(frozen=True)
class SideBySide:
    """The last measurement that the studies share: what each of them recommended, most accurate on ``val`` first.

    ``by_now``: trials that they recommend since they went on.
    """

    studies: tuple[str, ...]
    trials: tuple[int, ...]
    by_now: tuple[int, ...]
    again: tuple[Remeasured, ...]
    timing: Mapping[str, Any]

    @property
    def columns(self) -> Cells:
        """Names of the columns."""
        return ("study", "trial", *columns(self.again[0].metric))

    def rows(self) -> list[Cells]:
        """For a table with the columns ``columns``."""
        parts = zip(self.studies, self.trials, self.again, strict=True)
        return [(study, str(trial), *again.cells()) for study, trial, again in parts]

    def comparisons(self) -> Iterator[tuple[Cells, list[Cells]]]:
        """Header and rows of a table: whether neighbours differ, on ``val``, which no choice has seen."""
        told = verdicts([*pairwise(self.again)], "val", by_time=True)
        rows: list[Cells] = [(*pair, verdict) for pair, verdict in zip(pairwise(self.studies), told, strict=True)]
        yield ("study", "study", "at 5 % in all"), rows

    def notes(self) -> list[str]:
        """Sentences below the tables: how to read them, what has changed since, what to beware of."""
        changed = [
            f"{study} went on: it recommends trial {now} by now, which was not measured."
            for study, then, now in zip(self.studies, self.trials, self.by_now, strict=True)
            if now != then
        ]
        return [HOW, *changed, *how_timed(self.timing)]


def read_side_by_side(studies: Sequence[tuple[Kept, Sequence[FrozenTrial]]]) -> SideBySide | None:
    """The newest measurement that two or more of ``studies`` share, each with its trials; None without one."""
    parts = [(kept, trials, part) for kept, trials in studies if (part := _part(kept, trials)) is not None]
    newest = max((part["at"] for *_, part in parts), default=None)
    shared = [entry for entry in parts if entry[-1]["at"] == newest]
    if len(shared) < 2:
        return None
    first, _, timing = shared[0]
    metric = accuracy_of(first.objective.metrics)
    members = [
        (kept.name, part["trial"], _by_now(kept, trials), _again(kept, trials, part, metric))
        for kept, trials, part in shared
    ]
    names, numbers, by_now, again = zip(*sorted(members, key=_rank), strict=True)
    return SideBySide(names, numbers, by_now, again, timing)


def _part(kept: Kept, trials: Sequence[FrozenTrial]) -> dict[str, Any] | None:
    """What ``kept`` has of its last measurement, if any, and its trial has not been left out by a change since."""
    part: dict[str, Any] | None = kept.study.user_attrs.get(SIDE_BY_SIDE)
    complete = (trial.number for trial in trials if outcome_of(trial) is Outcome.COMPLETE)
    return part if part and part["trial"] in complete else None


def _by_now(kept: Kept, trials: Sequence[FrozenTrial]) -> int:
    return recommended(best_trials(trials, kept.objective), kept.objective).number


def _again(kept: Kept, trials: Sequence[FrozenTrial], part: Mapping[str, Any], metric: str) -> Remeasured:
    number = part["trial"]
    accuracies, failed = trainings(kept.study)
    (trial,) = (trial for trial in trials if trial.number == number)
    as_chosen = metric_of(trial, metric, kept.objective)
    own, without = accuracies.get(number, {}), failed.get(number, {})
    return Remeasured(kept.name, metric, as_chosen, own, without, part["seconds"])


def _rank(member: tuple[str, int, int, Remeasured]) -> float:
    """By the accuracy on ``val``; what has none comes last."""
    values = member[-1].values("val")
    return median(values) if values else float("inf")
