"""Picture of who did what when: a row for each slot, a bar for each trial."""

import datetime
import html
from collections.abc import Sequence

import plotly.graph_objects as go
from optuna.trial import FrozenTrial

from codes.results.report.findings import Findings, Span, ended_as, span_of
from codes.results.report.style import COLOURS, Picture, counted
from codes.tuning.ledger import record_of

SHORTEST = 0.002  # of the whole time: a bar that can still be seen


def timeline(findings: Findings) -> Picture:
    """Each trial in the slot that ran it, coloured by its outcome. Optuna's has a row per trial instead."""
    started = [trial for trial in findings.trials if trial.datetime_start is not None]
    if not started:
        return Picture("time line of the slots", "No trial has started yet.")
    lanes = slot_lanes(started, findings.read)
    spans = [span_of(trial, findings.read) for trial in started]
    shortest = SHORTEST * (max(end for _, end in spans) - min(start for start, _ in spans)).total_seconds()
    figure = go.Figure()
    for outcome in COLOURS:
        own = [index for index, trial in enumerate(started) if ended_as(trial) == outcome]
        if own:
            figure.add_bar(
                name=outcome,
                orientation="h",
                y=[lanes[started[index].number] for index in own],
                base=[spans[index][0].isoformat(timespec="milliseconds") for index in own],
                x=[1000 * max(shortest, _seconds(spans[index])) for index in own],
                marker={"color": COLOURS[outcome], "line": {"width": 0.5, "color": "white"}},
                text=[_hover(started[index], spans[index]) for index in own],
                textposition="none",
                hovertemplate="%{text}<extra>" + outcome + "</extra>",
            )
    rows = sorted(set(lanes.values()), reverse=True)  # the first one on top
    figure.update_layout(barmode="overlay", showlegend=True, margin_l=10)
    figure.update_xaxes(type="date", title="local time")
    figure.update_yaxes(categoryorder="array", categoryarray=rows, automargin=True)
    text = (
        f"{len(rows)} slots, {counted(map(ended_as, started))}. Very short trials are drawn longer than they were; one "
        "whose coordinator died, only as its start."
    )
    return Picture("time line of the slots", text, figure, height=150 + 32 * len(rows))


def slot_lanes(trials: Sequence[FrozenTrial], now: datetime.datetime) -> dict[int, str]:
    """Row of each trial by number: its device and coordinator, and which of several slots where a device has more.

    A device may be listed twice, and what a trial keeps is the device: of trials that overlap each gets a row.
    """
    ends: dict[str, list[datetime.datetime]] = {}
    placed: dict[int, tuple[str, int]] = {}
    for trial in sorted(trials, key=lambda trial: span_of(trial, now)):
        start, end = span_of(trial, now)
        slots = ends.setdefault(_where(trial), [])
        free = next((index for index, until in enumerate(slots) if until <= start), len(slots))
        slots[free : free + 1] = [end]
        placed[trial.number] = _where(trial), free
    return {
        number: f"{where}, slot {index + 1}" if len(ends[where]) > 1 else where
        for number, (where, index) in placed.items()
    }


def _where(trial: FrozenTrial) -> str:
    record = record_of(trial)
    if "device" not in record:
        return "unknown"
    host, process, *_ = [*str(record.get("coordinator", "")).split(":"), ""]
    return html.escape(f"{host}:{process} {record['device']}")


def _seconds(span: Span) -> float:
    return (span[1] - span[0]).total_seconds()


def _hover(trial: FrozenTrial, span: Span) -> str:
    record = record_of(trial)
    lines = [f"trial {trial.number}, {_seconds(span):.1f} s", record.get("hardware"), record.get("reason")]
    return "<br>".join(html.escape(str(line)[:200]) for line in lines if line)
