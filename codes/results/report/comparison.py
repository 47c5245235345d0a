"""The page that sets all studies of a ``tuning_id`` side by side."""

import math
from collections.abc import Sequence

import plotly.graph_objects as go

from codes.results.report.findings import Findings, value_of
from codes.results.report.page import Gallery, link, page, paragraph, subheading, table
from codes.results.report.study import in_words
from codes.results.report.style import STUDIES, Picture, scale


def comparison_page(tuning_id: str, studies: Sequence[tuple[Findings, str]]) -> str:
    """HTML of several studies, each with the address of its own page."""
    findings = [found for found, _ in studies]
    words = "".join(paragraph(in_words(found), "found") for found in findings)
    pages = "".join(subheading(found.kept.name) + link(address, address) for found, address in studies)
    sections = [
        ("Studies", _studies(findings)),
        ("Accuracy against cost", Gallery().show(_costs(findings))),
        ("Pages", pages),
    ]
    return page(f"All studies of {tuning_id}", sections, words)


def _studies(findings: Sequence[Findings]) -> str:
    rows = []
    for found in findings:
        chosen = found.chosen
        names = list(dict.fromkeys([*found.kept.objective.metrics, *found.axes]))
        values = "" if chosen is None else ", ".join(_quantity(found, name) for name in names)
        which = "" if chosen is None else str(chosen.number)
        rows.append((found.kept.name, f"{found.valid}/{found.kept.config.trials}", which, values))
    return table(("study", "valid trials", "best or knee", ""), rows)


def _quantity(found: Findings, name: str) -> str:
    assert found.chosen is not None
    value = value_of(name, found.kept.objective.metrics)(found.chosen)
    return f"{name} {found.quantity(name, value)}" if math.isfinite(value) else ""


def _costs(findings: Sequence[Findings]) -> Picture:
    """Complete trials of all studies in the two metrics of the first one, a colour for each study."""
    x, y = findings[0].axes
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
    figure.update_xaxes(title=findings[0].label(x), type=scale(point[0] for point in drawn))
    figure.update_yaxes(title=findings[0].label(y), type=scale(point[1] for point in drawn))
    return Picture(title, "Down and left is better. One colour for each study.", figure, height=520)
