"""Scaling of columns (quantities or parameters), fitted once, with an exact inverse."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from codes.data.dataset import chunks
from codes.errors import UserError

log = logging.getLogger(__name__)

NORMALISATIONS = ("minmax", "standardise", "disable")


@dataclass(frozen=True, eq=False)
class Scaling:
    """``y = (w(x) - offset) / scale`` with ``w(x) = log10(max(x, floor))`` or ``w(x) = x``, column by column.

    Takes tensors ``[..., K]`` of any real dtype on any device that knows float64. The arithmetic is float64, the result
    has the dtype of the argument (integers: float64). Ask for float64 where physical values leave float32's 1e±38.
    """

    offset: Tensor  # [K] float64
    scale: Tensor  # [K] float64, > 0
    log10: bool = False
    floor: float | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Physical to normalised."""
        return ((self.warp(x.double()) - self.offset.to(x.device)) / self.scale.to(x.device)).to(_dtype(x))

    def inverse(self, y: Tensor) -> Tensor:
        """Normalised to physical; ``inverse(forward(x)) = max(x, floor)``."""
        warped = self.offset.to(y.device) + self.scale.to(y.device) * y.double()
        return (10.0**warped if self.log10 else warped).to(_dtype(y))

    def warp(self, x: Tensor) -> Tensor:
        """``w(x)``, the scale in which columns are shifted and stretched."""
        if not self.log10:
            return x
        return torch.log10(x if self.floor is None else x.clamp(min=self.floor))

    def to(self, device: torch.device | str) -> "Scaling":
        """The same scaling with its statistics on ``device``."""
        return Scaling(self.offset.to(device), self.scale.to(device), self.log10, self.floor)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers for JSON or YAML, exact."""
        statistics = {"offset": self.offset.tolist(), "scale": self.scale.tolist()}
        return {**statistics, "log10": self.log10, "floor": self.floor}

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> "Scaling":
        """Inverse of ``to_dict``."""
        offset, scale = (torch.tensor(list(state[key]), dtype=torch.float64) for key in ("offset", "scale"))
        return cls(offset, scale, state["log10"], state["floor"])


def fit_scaling(
    values: NDArray[Any],
    names: Sequence[str],
    *,
    normalise: str,
    per_column: bool,
    log10: bool,
    floor: float | None = None,
) -> Scaling:
    """Scaling of the columns of ``values`` ``[..., K]``, statistics in float64 over all other axes.

    ``minmax`` maps a column's range to [-1, 1], ``standardise`` its mean to 0 and its standard deviation to 1,
    ``disable`` leaves it alone; all after the logarithm. Without ``per_column`` all columns share one range or one mean
    and deviation. A constant column (up to rounding) is shifted to 0, which is logged; its scale is its magnitude, so
    that errors are relative to it, but 1 for the constant 0 and under the logarithm.

    A column that is nowhere above ``floor`` becomes constant, of which a warning is logged.

    Raises:
        UserError: ``normalise`` is none of the three, or no column is anywhere above ``floor``.
    """
    if normalise not in NORMALISATIONS:
        raise UserError(f"dataset.normalise: '{normalise}' is unknown; choose from {', '.join(NORMALISATIONS)}")
    n_columns = values.shape[-1]
    zeros, ones = torch.zeros(n_columns, dtype=torch.float64), torch.ones(n_columns, dtype=torch.float64)
    warped = Scaling(zeros, ones, log10, floor)
    low, high = _extremes(values)
    if log10 and floor is not None:
        _check_floor(floor, high, names)
        low, high = low.clamp(min=floor), high.clamp(min=floor)
    if normalise == "disable":
        return warped
    if not per_column:
        low, high = low.min().expand_as(low), high.max().expand_as(high)
    constant = high - low <= 4 * _rounding(values) * torch.maximum(low.abs(), high.abs())
    low, high = warped.warp(low), warped.warp(high)
    if normalise == "minmax":
        offset, scale = low / 2 + high / 2, high / 2 - low / 2
    else:
        offset, scale = _moments(values, warped, per_column)
    constant |= scale < np.finfo(np.float64).tiny
    if constant.any():
        still = ", ".join(name for name, is_constant in zip(names, constant.tolist(), strict=True) if is_constant)
        log.info(f"constant in the training split, so without a range to be scaled by: {still}")
    magnitude = ones if log10 else torch.where(low.abs() < np.finfo(np.float64).tiny, ones, low.abs())
    return Scaling(torch.where(constant, low, offset), torch.where(constant, magnitude, scale), log10, floor)


def _extremes(values: NDArray[Any]) -> tuple[Tensor, Tensor]:
    """Lowest and highest value ``[K]`` of each column."""
    axes = tuple(range(values.ndim - 1))
    return torch.from_numpy(values.min(axes).astype(np.float64)), torch.from_numpy(values.max(axes).astype(np.float64))


def _check_floor(floor: float, high: Tensor, names: Sequence[str]) -> None:
    """Tell of columns that a floor makes constant; refuse one that leaves nothing."""
    if high.max() <= floor:
        raise UserError(
            f"dataset.tolerance: the floor under the logarithm is {floor:g}, but no value of the training split is "
            f"above {high.max():g}; lower it"
        )
    below = ", ".join(name for name, highest in zip(names, high.tolist(), strict=True) if highest <= floor)
    if below:
        log.warning(f"nowhere above dataset.tolerance={floor:g} in the training split, so constant: {below}")


def _moments(values: NDArray[Any], warped: Scaling, per_column: bool) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation ``[K]`` of the warped columns, merged over chunks (Chan, Golub & LeVeque 1983)."""
    n, mean, squares = 0, torch.zeros_like(warped.offset), torch.zeros_like(warped.offset)
    for rows in chunks(values):
        x = warped.forward(torch.from_numpy(values[rows].astype(np.float64))).flatten(0, -2)
        delta, total = x.mean(0) - mean, n + len(x)
        squares += x.var(0, correction=0) * len(x) + delta**2 * (n * len(x) / total)
        mean += delta * (len(x) / total)
        n = total
    variance = squares / n
    if not per_column:
        overall = mean.mean()
        variance = (variance + (mean - overall) ** 2).mean().expand_as(variance)
        mean = overall.expand_as(mean)
    return mean, variance.sqrt()


def _rounding(values: NDArray[Any]) -> float:
    return float(np.finfo(values.dtype).eps)


def _dtype(x: Tensor) -> torch.dtype:
    return x.dtype if x.is_floating_point() else torch.float64
