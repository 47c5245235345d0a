"""What a training leaves in numbers: ``history.csv`` and ``metrics.yaml``."""

import csv
import io
from collections.abc import Mapping
from pathlib import Path

import yaml

from codes.files import write_atomically
from codes.metrics import ACCURACY
from codes.training.evaluation import ByQuantity
from codes.training.progress import TrainResult

HEADER = """\
# test: chose the weights (and, in a study, the hyperparameters); val: the final score, which no choice has seen.
# mean_trajectory: the errors on val of the mean training trajectory, which a surrogate must beat.
# by_quantity: the same errors, over trajectories and times only.
# lae99 and mlae are in `unit`; mae in data units, mse in their square; times in seconds.
"""


def write_history(path: Path, history: list[dict[str, float]]) -> Path:
    """One row per evaluation, columns as in ``TrainResult.history``."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(history[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    return write_atomically(path, text.getvalue())


def write_metrics(
    path: Path,
    result: TrainResult,
    val: dict[str, float],
    mean: dict[str, float],
    by_quantity: Mapping[str, ByQuantity],
    unit: str,
) -> Path:
    """Accuracy on ``test`` and on ``val`` (from ``evaluate``, once, at the very end), that of the ``mean`` training
    trajectory on ``val``, costs, and what each split's quantities have of the errors."""
    metrics = result.metrics
    content = {
        "unit": unit,
        "epoch": result.epoch,
        "test": {name: metrics[name] for name in ACCURACY},
        "val": dict(val),
        "mean_trajectory": dict(mean),
        "costs": {
            "inference_time": metrics["inference_time"],
            "inference_time_spread": result.latency.spread,
            "train_time": metrics["train_time"],
            "n_parameters": metrics["n_parameters"],
        },
        "by_quantity": dict(by_quantity),
    }
    return write_atomically(path, HEADER + yaml.safe_dump(content, sort_keys=False, allow_unicode=True))
