"""A trial that was measured again, from new seeds and in turn with others: its row in a table, and who differs."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from codes.results.statistics import median_interval, p_independent, p_paired, rejected

FEWEST = 2  # trainings from new seeds of which a spread can be told
KINDS = ("accuracy", "time")  # of what is tested
Cells = tuple[str, ...]


@dataclass(frozen=True)
class Remeasured:
    """What is known of a trial that texts call ``name``.

    ``as_chosen``: its ``metric`` when it was chosen. ``accuracies`` by seed, each with the splits ``test`` and ``val``
    of that training, by metric; ``failed`` has the trainings without one, with the reason. ``seconds`` to predict the
    test split, one for each round.
    """

    name: str
    metric: str
    as_chosen: float | None
    accuracies: Mapping[int, Mapping[str, Mapping[str, float]]]
    failed: Mapping[int, str]
    seconds: Sequence[float]

    def values(self, split: str) -> list[float]:
        """Accuracy of each new training on ``split``."""
        return [splits[split][self.metric] for splits in self.accuracies.values()]

    def cells(self) -> Cells:
        """What ``columns`` name."""
        failed = f", {len(self.failed)} failed" if self.failed else ""
        return (
            "-" if self.as_chosen is None else f"{self.as_chosen:.3g}",
            _spread(self.values("test")),
            _spread(self.values("val")),
            f"{len(self.accuracies)}{failed}",
            _interval(self.seconds) if self.seconds else "-",
        )


def columns(metric: str) -> Cells:
    """Names of the columns of a table, after those that name a trial."""
    return (f"{metric}, as chosen", "test, new seeds", "val, new seeds", "seeds", "inference time [ms]")


def verdicts(pairs: Sequence[tuple[Remeasured, Remeasured]], split: str, *, by_time: bool) -> list[str]:
    """Whether the two of each pair differ, as far as both are known well enough.

    Accuracies on ``split`` are compared by Welch's t-test on logarithms over the new seeds, times by Wilcoxon's
    signed-rank test over the rounds, which the two share; all pairs together at 5 % after Holm.
    """
    p_values: dict[str, float] = {}
    for index, (one, other) in enumerate(pairs):
        a, b = one.values(split), other.values(split)
        if min(len(a), len(b)) >= FEWEST:
            p_values[f"accuracy {index}"] = p_independent(a, b)
        if by_time and one.seconds and other.seconds:
            p_values[f"time {index}"] = p_paired(one.seconds, other.seconds)
    differ = rejected(p_values)
    told = []
    for index, pair in enumerate(pairs):
        tested, apart = ({kind for kind in KINDS if f"{kind} {index}" in keys} for keys in (p_values, differ))
        told.append(_verdict(*pair, split, by_time, tested, apart))
    return told


def _verdict(one: Remeasured, other: Remeasured, split: str, by_time: bool, tested: set[str], differ: set[str]) -> str:
    if "accuracy" not in tested:
        return "not enough trainings to compare"
    if not by_time:
        return "differ" if differ else "cannot be told apart"
    if "time" not in tested:
        return "not timed"
    if not differ:
        return "cannot be told apart"
    if len(differ) == 1:
        return f"differ in {differ.pop()} only"
    more_accurate = median(one.values(split)) < median(other.values(split))
    faster = median(one.seconds) < median(other.seconds)
    if more_accurate == faster:
        return f"{one.name if faster else other.name} is better in both"
    return "differ in both: a true trade-off"


def how_timed(timing: Mapping[str, Any]) -> Iterator[str]:
    """Sentences on the device and the moment, and what to beware of."""
    if "device" in timing:
        yield f"Timed on {timing['device']} ({timing['model']}), {timing['on']}."
    if "warning" in timing:
        yield f"Beware: {timing['warning']}."


HOW = (
    "New seeds: median (least to greatest) of trainings that no choice has seen. "
    "Times: median (95 % interval) for the whole test split."
)


def _spread(values: Sequence[float]) -> str:
    if not values:
        return "-"
    return f"{median(values):.3g} ({min(values):.3g}-{max(values):.3g})"


def _interval(seconds: Sequence[float]) -> str:
    low, high = median_interval(seconds)
    return f"{1e3 * median(seconds):.3g} ({1e3 * low:.3g}-{1e3 * high:.3g})"
