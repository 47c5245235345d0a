"""One picture per training: ``training.html``, which opens in a browser without a network."""

from pathlib import Path

import plotly.graph_objects as go
from plotly.colors import qualitative
from plotly.subplots import make_subplots
from torch import Tensor

from codes.data import PreparedData
from codes.files import write_atomically
from codes.training.evaluation import ByQuantity, inference, ranked
from codes.training.progress import TrainResult

TRAJECTORIES = 3
QUANTITIES = 10  # as many as there are colours
# Of errors, by the metric: none that a quantity has.
COLOURS = {"train_loss": "black", "lae99": "saddlebrown", "mlae": "darkgrey"}
SPAN = 100  # of positive times: beyond it their axis is logarithmic


def write_picture(path: Path, result: TrainResult, data: PreparedData, by_quantity: ByQuantity) -> Path:
    """Loss and errors against the epoch, predictions (dashed) against truth for the first test trajectories, and the
    errors of each quantity on ``val``, the worst first.

    The file brings its own copy of plotly.js (about 4.5 MB), so it is for single trainings, not for every trial.
    """
    trajectories = range(min(TRAJECTORIES, len(data.test)))
    titles = [
        "loss and errors",
        *(f"test trajectory {index}: solid the truth, dashed the prediction" for index in trajectories),
        "errors of each quantity on val",
    ]
    figure = make_subplots(rows=len(titles), cols=1, subplot_titles=titles, vertical_spacing=0.25 / len(titles))
    _add_history(figure, result.history, data.transform.unit)
    for row, (truth, predicted) in enumerate(_trajectories(result, data), start=2):
        _add_trajectory(figure, row, data, truth, predicted)
    _add_quantities(figure, len(titles), by_quantity, data.transform.unit)
    figure.update_layout(height=420 * len(titles), template="plotly_white", hovermode="x unified")
    return write_atomically(path, figure.to_html(include_plotlyjs=True))


def _add_history(figure: go.Figure, history: list[dict[str, float]], unit: str) -> None:
    epochs = [row["epoch"] for row in history]
    names = {"train_loss": "training loss", "lae99": f"test LAE99 [{unit}]", "mlae": f"test mean LAE [{unit}]"}
    for name, label in names.items():
        values = [row[name] for row in history]
        line = {"color": COLOURS[name]}
        figure.add_trace(go.Scatter(x=epochs, y=values, name=label, mode="lines+markers", line=line), row=1, col=1)
    figure.update_xaxes(title="epoch", row=1, col=1)
    figure.update_yaxes(type="log", row=1, col=1)


def _trajectories(result: TrainResult, data: PreparedData) -> list[tuple[Tensor, Tensor]]:
    """Truth and prediction ``[T, Q]`` in physical units of the first test trajectories."""
    x, p = data.test.x[:TRAJECTORIES], None if data.test.p is None else data.test.p[:TRAJECTORIES]
    with inference(result.model):
        predicted = result.model(x[:, 0], data.t, p)
    physical = (data.transform.inverse(values.double()).cpu() for values in (x, predicted))
    return list(zip(*physical, strict=True))


def _add_trajectory(figure: go.Figure, row: int, data: PreparedData, truth: Tensor, predicted: Tensor) -> None:
    for index, label in enumerate(data.labels[:QUANTITIES]):
        line = {"color": qualitative.Plotly[index]}
        for values, dash, name in ((truth, "solid", label), (predicted, "dash", f"{label}, predicted")):
            curve = go.Scatter(
                x=data.timesteps, y=values[:, index].tolist(), name=name, legendgroup=label, mode="lines",
                line={**line, "dash": dash}, showlegend=row == 2 and dash == "solid",
            )  # fmt: skip
            figure.add_trace(curve, row=row, col=1)
    figure.update_xaxes(title="time", row=row, col=1)
    first, last = data.timesteps[[0, -1]]
    if last > SPAN * first > 0:
        figure.update_xaxes(type="log", exponentformat="power", row=row, col=1)
    if data.transform.unit == "dex":
        figure.update_yaxes(type="log", exponentformat="power", row=row, col=1)


def _add_quantities(figure: go.Figure, row: int, by_quantity: ByQuantity, unit: str) -> None:
    worst_first = ranked(by_quantity["lae99"])
    for name, label in (("lae99", "LAE99"), ("mlae", "mean LAE")):
        values = [by_quantity[name][quantity] for quantity in worst_first]
        marker = {"color": COLOURS[name], "line_width": 0}
        bars = go.Bar(x=list(worst_first), y=values, name=f"val {label} [{unit}], by quantity", marker=marker)
        figure.add_trace(bars, row=row, col=1)
    figure.update_xaxes(type="category", row=row, col=1)
    figure.update_yaxes(title=unit, row=row, col=1)
