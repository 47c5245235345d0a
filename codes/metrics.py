"""What can be measured of a trained surrogate: names, directions and units. Without torch, for checking configs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from codes.errors import UserError


@dataclass(frozen=True)
class MetricInfo:
    """One metric: which way is better, in which unit, and what it is."""

    direction: Literal["minimize", "maximize"]
    unit: str
    description: str


PREFIXES = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"))
ACCURACY = ("lae99", "mlae", "mae", "mse")  # of predictions, in the order in which they are evaluated
METRICS: dict[str, MetricInfo] = {
    "lae99": MetricInfo("minimize", "dex, or data units without log10_transform", "percentile of the absolute error"),
    "mlae": MetricInfo("minimize", "dex, or data units without log10_transform", "mean of the absolute error"),
    "mae": MetricInfo("minimize", "data units", "mean absolute error"),
    "mse": MetricInfo("minimize", "data units squared", "mean squared error"),
    "inference_time": MetricInfo("minimize", "s", "median time to predict the test split"),
    "train_time": MetricInfo("minimize", "s", "time spent in training steps"),
    "n_parameters": MetricInfo("minimize", "", "trainable parameters"),
}


def accuracy_of(metrics: Sequence[str]) -> str:
    """The accuracy that a choice looks at: the first of ``metrics``, ``lae99`` where none of them is one."""
    return next((name for name in metrics if name in ACCURACY), "lae99")


def unit_of(name: str, log10_transform: bool) -> str:
    """Unit of the metric ``name`` on data of which logarithms are learned or not."""
    unit = METRICS[name].unit
    return unit if " or " not in unit else ("dex" if log10_transform else "data units")


def with_unit(name: str, value: float) -> str:
    """``value`` of the metric ``name`` to four digits, a time with its unit, a count in full.

    ``0.0513``, ``330.5 µs``, ``71,259``.
    """
    if METRICS[name].unit == "s":
        return seconds(value, 4)
    return f"{value:.4g}" if METRICS[name].unit else f"{value:,.0f}"


def seconds(value: float, digits: int) -> str:
    """A time with its unit: ``1.2 ms``."""
    rounded = float(f"{value:.{digits}g}")
    scale, unit = next((pair for pair in PREFIXES if rounded >= pair[0]), PREFIXES[-1] if value > 0 else PREFIXES[0])
    return f"{rounded / scale:g} {unit}"


def direction(name: str) -> Literal["minimize", "maximize"]:
    """Direction in which ``name`` is optimised; raises ``UserError`` for an unknown name."""
    if name not in METRICS:
        raise UserError(f"objective.metrics: '{name}' is not a metric; choose from {', '.join(METRICS)}")
    return METRICS[name].direction
