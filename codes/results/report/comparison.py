"""The page that sets all studies of a ``tuning_id`` side by side."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import plotly.graph_objects as go
from optuna.trial import FrozenTrial

from codes.metrics import accuracy_of
from codes.results.comparable import MATTERS_TO, differences, measured
from codes.results.report.findings import Findings
from codes.results.report.page import Gallery, link, page, paragraph, subheading, table
from codes.results.report.study import certified, in_words
from codes.results.report.style import STAR, STUDIES, Picture, axis
from codes.results.side_by_side import read_side_by_side


def comparison_page(tuning_id: str, studies: Sequence[tuple[Findings, str]]) -> str:
    """HTML of several studies, each with the address of its own page."""
    findings = [found for found, _ in studies]
    axes = findings[0].axes
    words = "".join(paragraph(f"{found.kept.name}: {in_words(found)}", "found") for found in findings)
    words += _beware(findings)
    pages = "".join(subheading(found.kept.name) + link(address, address) for found, address in studies)
    sections = [
        ("Studies", _studies(findings)),
        ("Side by side", _side_by_side(findings)),
        ("Within your limits", "".join(_unbeaten(group, *axes) for group in _alike(findings, axes))),
        ("Accuracy against cost", Gallery().show(*costs(findings))),
        ("Pages", pages),
    ]
    return page(f"All studies of {tuning_id}", sections, words)


def _beware(findings: Sequence[Findings]) -> str:
    """In what the studies differ so that their errors or times cannot be compared; empty where they can."""
    differ = differences({found.kept.name: measured(found.kept.config, found.chosen) for found in findings})
    if not differ:
        return ""
    apart = "Those of which errors or times cannot be compared have a table and a picture of their own."
    return paragraph(f"Beware, these studies cannot simply be compared: {'; '.join(differ)}. {apart}")


def _studies(findings: Sequence[Findings]) -> str:
    header = ("study", "valid trials", "best or knee", "test, chosen by it", "val, seen by no choice", "cost")
    return table(header, map(_study, findings))


def _side_by_side(findings: Sequence[Findings]) -> str:
    """What ``codes.certify`` measured again of all studies; empty before it did."""
    found = read_side_by_side([(each.kept, each.trials) for each in findings])
    return certified(found) if found else ""


def _study(found: Findings) -> tuple[str, ...]:
    """Row of a study: the trial that it recommends, with both scores of its accuracy and its other metrics."""
    progress = found.kept.name, f"{found.valid}/{found.target}"
    chosen = found.chosen
    if chosen is None:
        return (*progress, "", "", "", "")
    metrics = found.kept.objective.metrics
    accuracy = accuracy_of(metrics)
    known = {name: found.value(name, chosen) for name in dict.fromkeys([accuracy, *metrics, *found.axes])}
    val = found.held_out.get(accuracy)
    costs = [f"{name} {found.quantity(name, value)}" for name, value in known.items() if math.isfinite(value)]
    return (
        *progress,
        f"trial {chosen.number}",
        costs[0] if math.isfinite(known[accuracy]) else "",
        "not scored" if val is None else f"{accuracy} {found.quantity(accuracy, val)}",
        ", ".join(costs[1:]),
    )


def _unbeaten(findings: Sequence[Findings], x: str, y: str) -> str:
    """The Pareto front of some studies together in two metrics, as a table; empty before there is one."""
    points = [(point, found) for found in findings for point in _points(found, found.complete, x, y)]
    rows, least = [], math.inf
    for (first, second, number), study in sorted(points, key=lambda entry: entry[0]):
        if second < least:
            rows.append((study.kept.name, f"{number}", study.quantity(x, first), study.quantity(y, second)))
            least = second
    names = ", ".join(found.kept.name for found in findings)
    text = (
        f"The trials of {names} that no other one of them beats in {x} and {y}, as measured on test. Of those whose "
        f"{x} is within your limit the last has the least {y}; of those whose {y} is, the first has the least {x}."
    )
    return paragraph(text) + table(("study", "trial", x, y), rows) if rows else ""


def costs(findings: Sequence[Findings]) -> list[Picture]:
    """Complete trials of all studies in the two metrics of the first one; one picture for those that are alike."""
    axes = findings[0].axes
    return [_cost(group, *axes) for group in _alike(findings, axes)]


def _alike(findings: Sequence[Findings], metrics: Sequence[str]) -> list[list[Findings]]:
    """Studies that can be compared: all that matters to ``metrics`` is the same. One without a result is left out."""
    alike: dict[tuple[str, ...], list[Findings]] = {}
    for found in [found for found in findings if found.complete] or findings:
        facts = measured(found.kept.config, found.chosen).items()
        same = tuple(value for fact, value in facts if MATTERS_TO.get(fact, {*metrics}) & {*metrics})
        alike.setdefault(same, []).append(found)
    return list(alike.values())


def _cost(findings: Sequence[Findings], x: str, y: str) -> Picture:
    """Complete trials of studies in two metrics, a colour for each study, with what each found."""
    title = f"{y} against {x}, complete trials"
    figure = go.Figure()
    drawn: list[tuple[float, float, int]] = []
    for number, found in enumerate(findings):
        colour = STUDIES[number % len(STUDIES)]
        points = _points(found, found.complete, x, y)
        drawn += points
        _add(figure, found, points, mode="markers", marker={"color": colour, "size": 8, "opacity": 0.5})
        if {*found.kept.objective.metrics} == {x, y}:
            front = sorted(_points(found, found.best, x, y))
            _add(figure, found, front, mode="lines", line={"color": colour, "shape": "hv"}, showlegend=False)
        if found.chosen is not None:
            chosen = _points(found, [found.chosen], x, y)
            _add(figure, found, chosen, mode="markers", marker={**STAR, "color": colour}, showlegend=False)
    if not drawn:
        return Picture(title, f"No trial has both {x} and {y} yet.")
    figure.update_xaxes(title=findings[0].label(x), **axis(point[0] for point in drawn))
    figure.update_yaxes(title=findings[0].label(y), **axis(point[1] for point in drawn))
    figure.update_layout(showlegend=True)  # also of one study
    text = "Down and left is better. One colour for each study; line: its Pareto front, where it has optimised both; "
    return Picture(title, f"{text}star: its knee, or its best trial.", figure, height=520)


def _points(found: Findings, trials: Iterable[FrozenTrial], x: str, y: str) -> list[tuple[float, float, int]]:
    """Two metrics and the number of each trial that has both."""
    points = [(found.value(x, trial), found.value(y, trial), trial.number) for trial in trials]
    return [point for point in points if math.isfinite(point[0]) and math.isfinite(point[1])]


def _add(figure: go.Figure, found: Findings, points: Sequence[tuple[float, float, int]], **looks: Any) -> None:
    """A trace of a study, which one entry of the legend shows and hides with its others."""
    name = found.kept.name
    figure.add_scatter(
        x=[point[0] for point in points],
        y=[point[1] for point in points],
        text=[f"trial {point[2]}" for point in points],
        name=name,
        legendgroup=name,
        hovertemplate="%{text}: %{x:.4g}, %{y:.4g}<extra>" + name.replace("<", "&lt;") + "</extra>",
        **looks,
    )
