"""Accuracy of a surrogate on one split, all metrics from one pass over it."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from codes.data import TensorSplit, Transform
from codes.errors import Diverged
from codes.metrics import ACCURACY
from codes.surrogates.base import SolverFailure
from codes.training.batches import chunks


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
    lae = percentile(errors.cpu().numpy().ravel(), target_percentile)
    return dict(zip(ACCURACY, (lae * unit, mlae * unit, mae, mse), strict=True))


def error_unit(transform: Transform) -> float:
    """Power of two below the largest ``error_scale``: in it, errors fit float32 in whatever units the data are."""
    return 2.0 ** math.floor(math.log2(transform.error_scale.max().item()))


def slice_errors(predicted: Tensor, truth: Tensor, transform: Transform, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Errors of normalised predictions times ``scale`` [Q]; the sums [3] of them, of errors in data units, and of their
    squares."""
    errors = (predicted - truth).abs_().mul_(scale)
    physical = (transform.inverse(predicted.double()) - transform.inverse(truth.double())).abs_()
    return errors, torch.stack((errors.sum(dtype=torch.float64), physical.sum(), physical.square_().sum()))


def percentile(values: NDArray[np.float32], percent: float) -> float:
    """Percentile of ``values`` with linear interpolation, for any number of elements; reorders ``values``.

    Selection takes linear time and no second array; ``torch.quantile`` refuses more than 16 million elements.
    """
    position = (values.size - 1) * percent / 100
    below = math.floor(position)
    above = min(below + 1, values.size - 1)
    values.partition((below, above))
    return float(values[below]) + (position - below) * (float(values[above]) - float(values[below]))
