"""Picture of two metrics against each other: results, their Pareto front, and where the other trials were stopped."""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import plotly.graph_objects as go
from optuna.exceptions import ExperimentalWarning
from optuna.trial import FrozenTrial
from optuna.visualization import plot_pareto_front

from codes.metrics import direction
from codes.results.report.findings import RUNNING, WAITING, Findings, ended_as, metrics_of
from codes.results.report.style import COLOURS, FRONT, Picture, axis, counted, mark_chosen
from codes.results.report.view import view

Value = Callable[[FrozenTrial], float]

ROW = 0.07  # of the picture's height, for each outcome in the strip


@dataclass(frozen=True)
class Stopped:
    """Trials without a result: the last value seen of each with its number, by outcome; outcomes of those without."""

    seen: Mapping[str, Sequence[tuple[float, int]]]
    unseen: Sequence[str]


def trade_offs(findings: Findings) -> list[Picture]:
    """The first objective against each of the others; a single one against what it costs."""
    first, *others = findings.kept.objective.metrics
    return [_trade_off(findings, first, other) for other in others or findings.axes[1:]]


def _trade_off(findings: Findings, x: str, y: str) -> Picture:
    title = f"{y} against {x}, all trials by outcome"
    goals = {name: partial(findings.value, name) for name in (*findings.kept.objective.metrics, y)}
    results = [trial for trial in findings.complete if all(math.isfinite(goal(trial)) for goal in goals.values())]
    if not results:
        return Picture(title, f"No trial has both {x} and {y} yet.")
    figure = _front(findings, goals, x, y, results)
    stopped = _stopped(findings, x)
    _add_strip(figure, stopped.seen)
    text = f"Front: no other complete trial is as good in {' and '.join(goals)} and better in one of them."
    if findings.kept.objective.is_single:
        text += f" Only {x} was optimised; {y} is what it costs."
    if stopped.seen:
        text += f" Strip on top: trials without a result, at the last {x} that was seen of them."
    if stopped.unseen:
        text += f" Not in the picture, nothing was seen of them: {counted(stopped.unseen)}."
    return Picture(title, text, figure, height=480)


def _front(findings: Findings, goals: Mapping[str, Value], x: str, y: str, results: Sequence[FrozenTrial]) -> go.Figure:
    numbers = {trial.number for trial in results}
    study = view(
        findings.trials,
        [direction(name) for name in goals],
        lambda trial: [goal(trial) for goal in goals.values()] if trial.number in numbers else None,
    )
    columns = list(goals).index(x), list(goals).index(y)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)  # `targets`
        figure = plot_pareto_front(
            study,
            target_names=[findings.label(x), findings.label(y)],
            targets=lambda trial: [trial.values[column] for column in columns],
        )
    dominated, front = figure.data
    dominated.update(name="complete", marker=None, showlegend=True)
    dominated.marker = {"color": COLOURS["complete"], "size": 7, "opacity": 0.6}
    front.update(name="Pareto front", showlegend=True)
    front.marker = {"color": FRONT, "size": 9}
    figure.update_layout(xaxis=axis(map(goals[x], results)), yaxis=axis(map(goals[y], results)))
    chosen = findings.chosen
    if chosen is not None and chosen in results:
        mark_chosen(figure, findings, goals[x](chosen), goals[y](chosen))
    return figure


def _stopped(findings: Findings, x: str) -> Stopped:
    seen: dict[str, list[tuple[float, int]]] = {}
    unseen: list[str] = []
    for trial in findings.trials:
        outcome = ended_as(trial)
        if outcome in ("complete", RUNNING, WAITING):
            continue
        last = _last(trial, x, findings.kept.objective.metrics)
        if math.isfinite(last):
            seen.setdefault(outcome, []).append((last, trial.number))
        else:
            unseen.append(outcome)
    return Stopped(seen, unseen)


def _last(trial: FrozenTrial, metric: str, objectives: Sequence[str]) -> float:
    """Last value of ``metric`` seen of a trial without a result; what it was told to Optuna as does not count."""
    known = metrics_of(trial)
    reports = trial.intermediate_values if objectives == (metric,) else {}
    return known.get(metric, reports[max(reports)] if reports else math.nan)


def _add_strip(figure: go.Figure, seen: Mapping[str, Sequence[tuple[float, int]]]) -> None:
    """A row for each outcome above the picture, on the same axis."""
    for outcome, points in seen.items():
        figure.add_scatter(
            x=[value for value, _ in points],
            y=[outcome] * len(points),
            yaxis="y2",
            mode="markers",
            marker={"color": COLOURS[outcome], "symbol": "line-ns-open", "size": 12},
            text=[f"trial {number}" for _, number in points],
            hovertemplate="%{text}: %{x:.4g}<extra>" + outcome + "</extra>",
            showlegend=False,
        )
    if seen:
        height = ROW * len(seen)
        figure.update_layout(
            yaxis_domain=[0, 0.97 - height],
            yaxis2={"domain": [1 - height, 1], "type": "category", "anchor": "x", "fixedrange": True},
        )
