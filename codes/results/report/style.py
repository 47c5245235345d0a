"""What all pictures of a report share."""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from codes.results.report.findings import RUNNING, WAITING, Findings
from codes.tuning.outcomes import Outcome

# Colours that colour-blind readers tell apart (M. Okabe and K. Ito, 2008), and greys for what is common or no result.
COLOURS = {
    Outcome.COMPLETE.value: "#0072B2",
    Outcome.PRUNED.value: "#9a9a9a",
    Outcome.DIVERGED.value: "#D55E00",
    Outcome.TIME_PRUNED.value: "#E69F00",
    Outcome.OUT_OF_MEMORY.value: "#CC79A7",
    Outcome.CRASHED.value: "#000000",
    Outcome.FAILED.value: "#8b1a1a",
    Outcome.INTERRUPTED.value: "#56B4E9",
    Outcome.LEFT_OUT.value: "#cccccc",
    RUNNING: "#009E73",
    WAITING: "#e5e5e5",
}
STUDIES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8b1a1a")
FRONT = "#D55E00"
FEW, MANY = 0.5, 2.5  # decades below which Plotly chooses ticks well, and above which one for each is enough
MARGIN = 0.06  # of an axis, beyond the outermost points
STAR = {"symbol": "star", "size": 15, "color": "#F0E442", "line": {"width": 1, "color": "#000000"}}


@dataclass(frozen=True)
class Picture:
    """A figure with a title and how to read it; without a figure, why there is none."""

    title: str
    text: str
    figure: go.Figure | None = None
    height: int = 420  # pixels


def counted(outcomes: Iterable[str]) -> str:
    """``3 pruned, 1 crashed``, in the order of the outcomes."""
    numbers = Counter(outcomes)
    return ", ".join(f"{numbers[name]} {name}" for name in COLOURS if numbers[name])


def scale(values: Iterable[float]) -> str:
    """Type of an axis: logarithmic for what is positive."""
    return "log" if all(value > 0 for value in values if math.isfinite(value)) else "linear"


def axis(values: Iterable[float]) -> dict[str, Any]:
    """Settings of an axis for ``values``: its type, and on a logarithmic one few ticks, each with its whole number."""
    finite = [value for value in values if math.isfinite(value)]
    kind = scale(finite)
    if kind == "linear" or not finite or min(finite) == max(finite):
        return {"type": "linear"}
    decades = math.log10(max(finite) / min(finite))
    steps: str | int | None = math.ceil(decades / 4)
    if decades < MANY:  # D1: at all digits of each decade, D2: at 1, 2 and 5
        steps = None if decades < FEW else "D1" if decades < 1 else "D2"
    return {"type": kind, "tickformat": "~g", "dtick": steps}


def span(low: float, high: float, log: bool) -> list[float]:
    """Range of an axis from ``low`` to ``high`` with a margin on either side, as Plotly wants it."""
    first, last = (math.log10(low), math.log10(high)) if log else (low, high)
    margin = MARGIN * (last - first) or MARGIN * abs(last) or MARGIN
    return [first - margin, last + margin]


def mark_chosen(figure: go.Figure, findings: Findings, x: object, y: float) -> None:
    """A star at the best trial, or the knee."""
    chosen = findings.chosen
    assert chosen is not None
    name = f"{'best' if findings.kept.objective.is_single else 'knee'}: trial {chosen.number}"
    figure.add_scatter(x=[x], y=[y], mode="markers", marker=STAR, name=name, hovertemplate=f"{name}<extra></extra>")
