"""A dataset as a surrogate sees it: normalised float32 tensors on one device."""

import logging
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from codes.data.dataset import Dataset, chunks, first_index, locate_value
from codes.data.scaling import Scaling
from codes.data.transform import Transform
from codes.errors import UserError
from codes.schema import DatasetConfig, DataSpec

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class TensorSplit:
    """Normalised trajectories ``x`` ``[n, T, Q]`` and parameters ``p`` ``[n, P]``, float32."""

    x: Tensor
    p: Tensor | None

    def __len__(self) -> int:
        return len(self.x)

    def to(self, device: torch.device | str) -> "TensorSplit":
        """The same split on ``device``."""
        return TensorSplit(self.x.to(device), None if self.p is None else self.p.to(device))


@dataclass(frozen=True, eq=False)
class PreparedData:
    """Everything a training needs: three splits, their time grid, and the transform back to physical units."""

    spec: DataSpec
    t: Tensor  # [T] float32 in [0, 1]
    train: TensorSplit
    test: TensorSplit
    val: TensorSplit
    transform: Transform
    labels: tuple[str, ...]
    parameter_labels: tuple[str, ...]
    timesteps: NDArray[np.float64]  # [T] physical
    fingerprint: str  # of the physical data

    def to(self, device: torch.device | str) -> "PreparedData":
        """The same data with all tensors on ``device``."""
        names = ("t", "train", "test", "val", "transform")
        return replace(self, **{name: getattr(self, name).to(device) for name in names})


def prepare(dataset: Dataset, config: DatasetConfig, *, overwrite: bool = False) -> PreparedData:
    """Fit the transform on ``dataset.train`` and apply it to all splits, a few trajectories at a time.

    Needs little memory beyond the dataset and the float32 tensors. With ``overwrite`` the tensors take the place of
    float32 arrays, which saves a copy of the data and leaves ``dataset`` useless.

    Raises:
        UserError: a non-positive value under a logarithm, or a value beyond float32 after scaling; both name file,
            split and index; and what ``Transform.fit`` raises.
    """
    _check_positive(dataset, config)
    fingerprint = dataset.fingerprint()
    transform = Transform.fit(dataset, config)
    splits = {}
    for name, split in dataset.splits():
        x = _scaled(dataset, name, split.trajectories, transform.quantities, overwrite)
        p = None
        if split.parameters is not None and transform.parameters is not None:
            p = _scaled(dataset, f"{name}_params", split.parameters, transform.parameters, overwrite)
        splits[name] = TensorSplit(x, p)
    t = transform.forward_times(transform.timesteps).float()
    train, test, val = splits.values()
    names = dataset.labels, dataset.parameter_labels
    return PreparedData(dataset.spec, t, train, test, val, transform, *names, dataset.timesteps, fingerprint)


def _check_positive(dataset: Dataset, config: DatasetConfig) -> None:
    for name, split in dataset.splits():
        if config.log10_transform and config.tolerance is None:
            _refuse_non_positive(dataset, name, split.trajectories, "dataset.log10_transform=false", floored=True)
        elif config.log10_transform and config.tolerance is not None:
            _warn_of_negative(dataset, name, split.trajectories, config.tolerance)
        if config.log10_transform_params and split.parameters is not None:
            _refuse_non_positive(dataset, f"{name}_params", split.parameters, "dataset.log10_transform_params=false")


def _refuse_non_positive(
    dataset: Dataset, key: str, values: NDArray[Any], advice: str, *, floored: bool = False
) -> None:
    index = first_index(values, lambda piece: piece <= 0)
    if index is not None:
        where = locate_value(key, index, dataset.labels, dataset.parameter_labels)
        floor = _floor_below(dataset.train.trajectories) if floored else ""
        raise UserError(f"{dataset.path}: {where} is {values[index]:g}, which has no logarithm; set {floor}{advice}")


def _warn_of_negative(dataset: Dataset, key: str, values: NDArray[Any], floor: float) -> None:
    """Log a warning for negative values, larger than the floor that replaces them: rounding has not made these."""
    number = np.zeros(values.shape[-1], np.int64)
    for rows in chunks(values):
        number += (values[rows] < np.float64(-floor)).sum((0, 1))  # in float32 the floor may be 0
    if not number.any():
        return
    least = values.min()
    index = first_index(values, lambda piece: piece == least)
    assert index is not None
    each = ", ".join(f"{count} of {name}" for count, name in zip(number, dataset.labels, strict=True) if count)
    log.warning(
        f"{dataset.path}: '{key}' has negative values beyond the floor dataset.tolerance={floor:g}, which takes their "
        f"place: {each}, the least of them "
        f"{locate_value(key, index, dataset.labels, dataset.parameter_labels)} = {least:g}; check the data"
    )


def _floor_below(values: NDArray[Any]) -> str:
    """Advice to set the highest floor, to one digit, that raises no positive value; none where it would be above all.

    A lower one puts decades without data between zeros and the least value, over which all else is scaled.
    """
    least = min(float(values[rows].min(where=values[rows] > 0, initial=np.inf)) for rows in chunks(values))
    if not least < values.max():
        return ""
    digits, exponent = f"{least:.15e}".split("e")
    return f"a floor (dataset.tolerance={digits[0]}e{int(exponent)}, below all positive values of 'train') or "


def _scaled(dataset: Dataset, key: str, values: NDArray[Any], scaling: Scaling, overwrite: bool) -> Tensor:
    reuse = overwrite and values.dtype == np.float32
    scaled = torch.from_numpy(values) if reuse else torch.empty(values.shape, dtype=torch.float32)
    for rows in chunks(values):
        scaled[rows] = scaling.forward(torch.from_numpy(values[rows].astype(np.float64)))
    index = first_index(scaled.numpy(), lambda piece: ~np.isfinite(piece))
    if index is not None:
        where = locate_value(key, index, dataset.labels, dataset.parameter_labels)
        raise UserError(
            f"{dataset.path}: {where} is too large for float32 after scaling; try dataset.log10_transform=true"
        )
    return scaled
