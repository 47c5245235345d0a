"""The page that sets all studies of a ``tuning_id`` side by side."""

import math
from collections.abc import Sequence

import plotly.graph_objects as go

from codes.results.report.findings import Findings, value_of
from codes.results.report.page import Gallery, link, page, paragraph, subheading, table
from codes.results.report.study import in_words
from codes.results.report.style import STUDIES, Picture, axis
from codes.tuning.front import accuracy_of


def comparison_page(tuning_id: str, studies: Sequence[tuple[Findings, str]]) -> str:
    """HTML of several studies, each with the address of its own page."""
    findings = [found for found, _ in studies]
    words = "".join(paragraph(in_words(found), "found") for found in findings)
    pages = "".join(subheading(found.kept.name) + link(address, address) for found, address in studies)
    sections = [
        ("Studies", _studies(findings)),
        ("Accuracy against cost", Gallery().show(*_costs(findings))),
        ("Pages", pages),
    ]
    return page(f"All studies of {tuning_id}", sections, words)


def _studies(findings: Sequence[Findings]) -> str:
    header = ("study", "valid trials", "best or knee", "test, chosen by it", "val, seen by no choice", "cost")
    return table(header, map(_study, findings))


def _study(found: Findings) -> tuple[str, ...]:
    """Row of a study: the trial that it recommends, with both scores of its accuracy and its other metrics."""
    progress = found.kept.name, f"{found.valid}/{found.target}"
    chosen = found.chosen
    if chosen is None:
        return (*progress, "", "", "", "")
    accuracy, metrics = accuracy_of(found.kept.objective), found.kept.objective.metrics
    known = {name: value_of(name, metrics)(chosen) for name in dict.fromkeys([accuracy, *metrics, *found.axes])}
    val = found.held_out.get(accuracy)
    costs = [f"{name} {found.quantity(name, value)}" for name, value in known.items() if math.isfinite(value)]
    return (
        *progress,
        f"trial {chosen.number}",
        costs[0] if math.isfinite(known[accuracy]) else "",
        "not scored" if val is None else f"{accuracy} {found.quantity(accuracy, val)}",
        ", ".join(costs[1:]),
    )


def _costs(findings: Sequence[Findings]) -> list[Picture]:
    """Complete trials of all studies in the two metrics of the first one; one picture for each unit of those."""
    axes = findings[0].axes
    alike: dict[tuple[str, ...], list[Findings]] = {}
    for found in findings:
        alike.setdefault(tuple(map(found.label, axes)), []).append(found)
    return [_cost(group, *axes) for group in alike.values()]


def _cost(findings: Sequence[Findings], x: str, y: str) -> Picture:
    """Complete trials of studies in two metrics, a colour for each study."""
    title = f"{y} against {x}, complete trials"
    figure = go.Figure()
    drawn: list[tuple[float, float]] = []
    for number, found in enumerate(findings):
        first, second = (value_of(name, found.kept.objective.metrics) for name in (x, y))
        points = [(first(trial), second(trial), trial.number) for trial in found.complete]
        points = [point for point in points if math.isfinite(point[0]) and math.isfinite(point[1])]
        drawn += [point[:2] for point in points]
        figure.add_scatter(
            x=[point[0] for point in points],
            y=[point[1] for point in points],
            text=[f"trial {point[2]}" for point in points],
            mode="markers",
            name=found.kept.name,
            marker={"color": STUDIES[number % len(STUDIES)], "size": 8},
            hovertemplate="%{text}: %{x:.4g}, %{y:.4g}<extra>" + found.kept.name.replace("<", "&lt;") + "</extra>",
        )
    if not drawn:
        return Picture(title, f"No trial has both {x} and {y} yet.")
    figure.update_xaxes(title=findings[0].label(x), **axis(point[0] for point in drawn))
    figure.update_yaxes(title=findings[0].label(y), **axis(point[1] for point in drawn))
    return Picture(title, "Down and left is better. One colour for each study.", figure, height=520)
