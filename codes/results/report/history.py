"""Pictures of how a study went: best so far over trials and over time, and the curves that pruning was decided by."""

import datetime
import math
import warnings
from collections.abc import Callable, Iterable, Sequence

import plotly.graph_objects as go
from optuna.exceptions import ExperimentalWarning
from optuna.trial import FrozenTrial
from optuna.visualization import plot_hypervolume_history, plot_intermediate_values, plot_optimization_history

from codes.results.report.findings import Findings, Span, ended_as, span_of
from codes.results.report.style import COLOURS, Picture, axis, counted
from codes.results.report.view import curves_view, view
from codes.tuning.front import logarithmic_losses

MOST_GOALS = 3  # objectives for which a hypervolume is computed
CURVES = 200  # that are drawn
UNITS = ((3600, "hours"), (60, "minutes"), (1, "seconds"))


def history(findings: Findings) -> list[Picture]:
    """The best so far, over trials and over time; of several objectives the volume that the front dominates."""
    if not findings.complete:
        return [Picture("best so far", "No trial is complete yet.")]
    objective = findings.kept.objective
    if len(objective.metrics) > MOST_GOALS:
        return [Picture("best so far", f"Not computed for more than {MOST_GOALS} objectives.")]
    ended = [trial for trial in findings.trials if trial.datetime_complete is not None]
    in_time = sorted(ended, key=lambda trial: trial.datetime_complete or findings.read)
    clock = busy_seconds(findings.trials, findings.read)
    seconds = [clock(trial.datetime_complete or findings.read) for trial in in_time]
    length, unit = next((pair for pair in UNITS if seconds[-1] >= pair[0]), UNITS[-1])
    over_trials = _progress(findings, findings.trials)
    over_time = _progress(findings, in_time)
    for trace in over_time.data:
        trace.x = [seconds[number] / length for number in trace.x]
    over_trials.update_xaxes(title="trial")
    over_time.update_xaxes(title=f"{unit} in which a trial ran", rangemode="tozero")
    text = "Dots: complete trials. Line: the best until then."
    if not objective.is_single:
        names = " and ".join(objective.metrics)
        text = (
            f"Volume of the part of the plane of {names} (logarithms to base 10 where positive) that the front "
            "dominates, up to the worst complete trial. It grows until no better compromise is found."
        )
    return [
        Picture("best so far over trials", text, over_trials, height=360),
        Picture(
            "best so far over wall time",
            f"{text} Time in which no trial ran, between launches, is left out.",
            over_time,
            height=360,
        ),
    ]


def _progress(findings: Findings, trials: Sequence[FrozenTrial]) -> go.Figure:
    """Optuna's history of ``trials``, numbered in their order."""
    objective = findings.kept.objective
    results = {trial.number for trial in findings.complete}
    if objective.is_single:
        study = view(trials, objective.directions, lambda trial: trial.values if trial.number in results else None)
        figure = plot_optimization_history(study, target_name=findings.label(objective.metrics[0]))
        figure.data = figure.data[:2]  # without the infeasible trials, which we have none of
        figure.data[0].update(name="complete", marker={"color": COLOURS["complete"], "size": 5})
        figure.data[1].update(name="best so far", line={"color": COLOURS["diverged"], "shape": "hv"})
        figure.update_yaxes(**axis(trial.values[0] for trial in findings.complete))
        return figure
    numbers = [trial.number for trial in findings.complete]
    losses = dict(zip(numbers, logarithmic_losses(findings.complete, objective), strict=True))
    worst = [max(column) for column in zip(*losses.values(), strict=True)]
    study = view(trials, ["minimize"] * len(worst), lambda trial: losses.get(trial.number))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        figure = plot_hypervolume_history(study, worst)
    figure.update_traces(mode="lines", line={"color": COLOURS["complete"], "shape": "hv"})
    figure.update_yaxes(title="dominated volume", rangemode="tozero")
    return figure


def busy_seconds(trials: Iterable[FrozenTrial], now: datetime.datetime) -> Callable[[datetime.datetime], float]:
    """A clock that stands still while no trial runs: seconds that it had counted at a time."""
    spans: list[Span] = []
    for start, end in sorted(span_of(trial, now) for trial in trials if trial.datetime_start is not None):
        if spans and start <= spans[-1][1]:
            spans[-1] = spans[-1][0], max(end, spans[-1][1])
        else:
            spans.append((start, end))

    def clock(moment: datetime.datetime) -> float:
        return sum((min(moment, end) - start).total_seconds() for start, end in spans if start < moment)

    return clock


def curves(findings: Findings) -> Picture:
    """The reported metric of each trial against the epoch, coloured by how the trial ended."""
    title = f"{findings.kept.objective.metrics[0]} during the trainings"
    if not findings.kept.objective.is_single:
        return Picture(title, "Nothing is reported epoch by epoch in a study of several objectives.")
    reported = [trial for trial in findings.trials if trial.intermediate_values]
    if not reported:
        return Picture(title, "No trial has reported a value yet.")
    shown = reported[:: math.ceil(len(reported) / CURVES)]
    chosen = findings.chosen
    if chosen is not None and chosen.intermediate_values and chosen not in shown:
        shown = [*shown, chosen]
    figure = _by_outcome(plot_intermediate_values(curves_view(shown)), shown)
    values = [value for trial in shown for value in trial.intermediate_values.values()]
    figure.update_xaxes(title="epoch")
    figure.update_yaxes(title=findings.label(findings.kept.objective.metrics[0]), **axis(values))
    drawn = f"{len(shown)} of {len(reported)} trials are drawn: " if len(shown) < len(reported) else ""
    text = f"One line per trial, coloured by outcome. {drawn}{counted(map(ended_as, shown))}."
    return Picture(title, text, figure, height=480)


def _by_outcome(figure: go.Figure, trials: Sequence[FrozenTrial]) -> go.Figure:
    """One trace for each outcome instead of one for each trial, with gaps between the curves: quick to draw."""
    merged = {name: go.Scatter(name=name, line={"color": COLOURS[name], "width": 1}) for name in COLOURS}
    points: dict[str, tuple[list[float | None], list[float | None], list[str | None]]] = {}
    for trace, trial in zip(figure.data, trials, strict=True):
        x, y, text = points.setdefault(ended_as(trial), ([], [], []))
        x += [*trace.x, None]
        y += [*(float(f"{value:.4g}") for value in trace.y), None]
        text += [*([f"trial {trial.number}"] * len(trace.x)), None]
    drawn = []
    for name in [*reversed(COLOURS)]:  # results on top
        if name in points:
            x, y, text = points[name]
            merged[name].update(x=x, y=y, text=text, mode="lines", hovertemplate="%{text}, epoch %{x}: %{y}")
            drawn.append(merged[name])
    return go.Figure(drawn, figure.layout).update_layout(showlegend=True)
