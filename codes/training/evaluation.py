"""Accuracy of a surrogate on one split, all metrics from one pass over it."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from codes.data import PreparedData, TensorSplit, Transform
from codes.data.dataset import told_apart
from codes.errors import Diverged
from codes.metrics import ACCURACY
from codes.surrogates.base import SolverFailure
from codes.training.batches import chunks

ByQuantity = dict[str, dict[str, float]]  # errors of each quantity: name of the metric, label of the quantity


@contextmanager
def divergence() -> Iterator[None]:
    """Turn an ODE solver that gave up into ``Diverged``."""
    try:
        yield
    except SolverFailure as failure:
        raise Diverged(f"diverged: {failure}") from failure


@contextmanager
def inference(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; the model's mode is restored."""
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(training)


def predictions(model: nn.Module, split: TensorSplit, t: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Normalised predictions ``[b, T, Q]`` of ``split``, in slices of trajectories that bound the memory."""
    for part in chunks(len(split), len(t)):
        yield part, model(split.x[part, 0], t, None if split.p is None else split.p[part])


def evaluate(
    model: nn.Module, split: TensorSplit, t: Tensor, transform: Transform, target_percentile: float
) -> dict[str, float]:
    """Errors over every trajectory, time and quantity of ``split``.

    With ``e = |log10 prediction - log10 truth|`` (dex) for data under a log transform and ``e = |prediction - truth|``
    (data units) for other data:

    - ``lae99``: the ``target_percentile``-th percentile of ``e``, interpolated linearly
    - ``mlae``: the mean of ``e``
    - ``mae``, ``mse``: means of ``|prediction - truth|`` and of its square, in data units and their square

    Memory: one float32 per element of the split, and one slice of predictions. Raises ``Diverged`` where a prediction
    is NaN or infinite or an ODE solver gives up.
    """
    unit = error_unit(transform)
    scale = (transform.error_scale / unit).to(split.x.device, torch.float32)
    errors = torch.empty(split.x.shape, dtype=torch.float32, device=split.x.device)
    sums = torch.zeros(3, dtype=torch.float64, device=split.x.device)
    with inference(model), divergence():
        for part, predicted in predictions(model, split, t):
            errors[part], sums_of_part = slice_errors(predicted, split.x[part], transform, scale)
            sums += sums_of_part
    mlae, mae, mse = (sums / split.x.numel()).tolist()
    if not math.isfinite(mlae):
        raise Diverged("diverged: a prediction of the evaluation is NaN or infinite")
    lae = float(percentile(errors.cpu().numpy().ravel(), target_percentile))
    return dict(zip(ACCURACY, (lae * unit, mlae * unit, mae, mse), strict=True))


def evaluate_by_quantity(
    model: nn.Module, split: TensorSplit, data: PreparedData, target_percentile: float
) -> ByQuantity:
    """``lae99`` and ``mlae`` of each quantity: those of ``evaluate``, over trajectories and times only.

    A pass of its own, for a model that is finished. Memory and ``Diverged`` as in ``evaluate``.
    """
    transform = data.transform
    unit = error_unit(transform)
    scale = (transform.error_scale / unit).to(split.x.device, torch.float32)
    n, n_times, n_quantities = split.x.shape
    errors = torch.empty(n_quantities, n, n_times, dtype=torch.float32, device=split.x.device)
    with inference(model), divergence():
        for part, predicted in predictions(model, split, data.t):
            errors[:, part] = (predicted - split.x[part]).abs_().mul_(scale).movedim(-1, 0)
    mlae = errors.mean((1, 2), dtype=torch.float64).cpu().numpy()
    if not np.isfinite(mlae).all():
        raise Diverged("diverged: a prediction of the evaluation is NaN or infinite")
    lae = percentile(errors.flatten(1).cpu().numpy(), target_percentile)
    labels = told_apart(data.labels)
    found = {"lae99": lae * unit, "mlae": mlae * unit}
    return {name: dict(zip(labels, values.tolist(), strict=True)) for name, values in found.items()}


def ranked(errors: Mapping[str, float]) -> dict[str, float]:
    """Errors by quantity, the worst first."""
    return dict(sorted(errors.items(), key=lambda entry: -entry[1]))


def error_unit(transform: Transform) -> float:
    """Power of two below the largest ``error_scale``: in it, errors fit float32 in whatever units the data are."""
    return 2.0 ** math.floor(math.log2(transform.error_scale.max().item()))


def slice_errors(predicted: Tensor, truth: Tensor, transform: Transform, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Errors of normalised predictions times ``scale`` [Q]; the sums [3] of them, of errors in data units, and of their
    squares."""
    errors = (predicted - truth).abs_().mul_(scale)
    physical = (transform.inverse(predicted.double()) - transform.inverse(truth.double())).abs_()
    return errors, torch.stack((errors.sum(dtype=torch.float64), physical.sum(), physical.square_().sum()))


def percentile(values: NDArray[np.float32], percent: float) -> NDArray[np.float64]:
    """Percentile along the last axis with linear interpolation, for any number of elements; reorders ``values``.

    Selection takes linear time and no second array; ``torch.quantile`` of PyTorch before 2.15 refuses more than 16
    million elements.
    """
    position = (values.shape[-1] - 1) * percent / 100
    below = math.floor(position)
    above = min(below + 1, values.shape[-1] - 1)
    values.partition((below, above))
    low, high = values[..., below].astype(np.float64), values[..., above].astype(np.float64)
    return np.asarray(low + (position - below) * (high - low))
