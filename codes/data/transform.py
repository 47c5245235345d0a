"""From physical units to what a surrogate sees, and back."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor

from codes.data.dataset import Dataset
from codes.data.scaling import Scaling, fit_scaling
from codes.errors import UserError
from codes.schema import DatasetConfig

log = logging.getLogger(__name__)

TIME_SCALES = ("index", "linear", "log10")


@dataclass(frozen=True, eq=False)
class Transform:
    """Scaling of quantities, parameters and times of one dataset, fitted on its training split only.

    Takes tensors of any real dtype and gives them back in it; the arithmetic is float64.
    """

    quantities: Scaling
    parameters: Scaling | None
    timesteps: Tensor  # [T] float64, physical, the training grid
    time_scale: str

    @classmethod
    def fit(cls, dataset: Dataset, config: DatasetConfig) -> "Transform":
        """Statistics of ``dataset.train``; the data must be positive where its logarithm is taken.

        Raises:
            UserError: an unknown choice, a ``tolerance`` that is not positive or above all data, ``time_scale=log10``
                from time 0, or a time scale on which two timesteps are one.
        """
        floor = config.tolerance
        if floor is not None and not floor > 0:
            raise UserError(f"dataset.tolerance: the floor under the logarithm must be positive, got {floor:g}")
        fit = partial(fit_scaling, normalise=config.normalise, per_column=config.normalise_per_quantity)
        train, log10 = dataset.train, config.log10_transform
        if floor is not None and not log10:
            log.warning(f"dataset.tolerance={floor:g} is a floor under the logarithm: of no effect on linear data")
        quantities = fit(train.trajectories, dataset.labels, log10=log10, floor=floor if log10 else None)
        parameters = None
        if train.parameters is not None:
            parameters = fit(train.parameters, dataset.parameter_labels, log10=config.log10_transform_params)
        timesteps = torch.from_numpy(dataset.timesteps)
        _check_time_scale(timesteps, config.time_scale)
        transform = cls(quantities, parameters, timesteps, config.time_scale)
        ascends = transform.scale_times(timesteps).float().diff() > 0
        if not ascends.all():
            first = int(ascends.logical_not().nonzero()[0])
            alike = " and ".join(f"{time:.15g}" for time in dataset.timesteps[first : first + 2])
            raise UserError(
                f"dataset.time_scale: with {config.time_scale} the timesteps {alike} ({first} and {first + 1}) are the "
                "same in float32; choose index"
            )
        return transform

    def forward(self, x: Tensor) -> Tensor:
        """Quantities ``[..., Q]``, physical to normalised; under the logarithm ``x`` must be positive or floored."""
        return self.quantities.forward(x)

    def inverse(self, y: Tensor) -> Tensor:
        """Quantities ``[..., Q]``, normalised to physical."""
        return self.quantities.inverse(y)

    def forward_params(self, p: Tensor) -> Tensor:
        """Parameters ``[..., P]``, physical to normalised.

        Raises:
            UserError: the dataset has no parameters.
        """
        if self.parameters is None:
            raise UserError("parameters were given, but the dataset has none")
        return self.parameters.forward(p)

    def forward_times(self, t: Tensor) -> Tensor:
        """Physical times ``[...]``, on the training grid or off it, to [0, 1]; first timestep 0, last timestep 1.

        ``index``: equally spaced on the training grid, linear in between; ``linear``: linear in t; ``log10``: in log t.

        Raises:
            UserError: a time outside the training range, where a surrogate knows nothing.
        """
        inside = self.covers(t)
        if not inside.all():
            first, last = self.timesteps[0], self.timesteps[-1]
            time = t[~inside][0].item()
            raise UserError(f"time {time:.15g} is outside the training range [{first:.15g}, {last:.15g}]")
        return self.scale_times(t)

    def covers(self, t: Tensor) -> Tensor:
        """Which of the physical times ``[...]`` lie in the training range."""
        first, last, rounded = (limit.to(t.device) for limit in self._limits)
        times = t.double()
        return (times >= first) & (times <= last) | torch.isin(times, rounded)

    @cached_property
    def _limits(self) -> tuple[Tensor, Tensor, Tensor]:
        """First and last time with room for rounding, and both as they are in float32, where they still are inside."""
        ends = self.timesteps[[0, -1]]
        slack = torch.finfo(torch.float32).eps * torch.minimum(ends.abs(), ends[1] - ends[0])
        first, last = ends + slack.maximum(torch.finfo(torch.float64).eps * ends.abs()) * ends.new_tensor([-1, 1])
        return first, last, ends.float().double()

    def scale_times(self, t: Tensor) -> Tensor:
        """``forward_times`` without its check: a time outside counts as the nearest end of the training range."""
        grid = self.timesteps.to(t.device)
        first, last = grid[0], grid[-1]
        times = t.double().clamp(first, last)
        if self.time_scale == "index":
            scaled = _position(times, grid)
        else:
            u, start, end = (torch.log10(v) if self.time_scale == "log10" else v for v in (times, first, last))
            scaled = (u - start) / (end - start)
        return scaled.to(t.dtype if t.is_floating_point() else torch.float64)

    @property
    def error_scale(self) -> Tensor:
        """``[Q]`` float64: |error in ``unit``| = ``error_scale`` · |normalised error|, since offsets cancel."""
        return self.quantities.scale

    @property
    def unit(self) -> str:
        """Unit of errors before normalisation."""
        return "dex" if self.quantities.log10 else "data units"

    def to(self, device: torch.device | str) -> "Transform":
        """The same transform with its statistics on ``device``."""
        parameters = None if self.parameters is None else self.parameters.to(device)
        return Transform(self.quantities.to(device), parameters, self.timesteps.to(device), self.time_scale)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers for JSON or YAML, exact."""
        return {
            "quantities": self.quantities.to_dict(),
            "parameters": None if self.parameters is None else self.parameters.to_dict(),
            "timesteps": self.timesteps.tolist(),
            "time_scale": self.time_scale,
        }

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> "Transform":
        """Inverse of ``to_dict``."""
        parameters = None if state["parameters"] is None else Scaling.from_dict(state["parameters"])
        timesteps = torch.tensor(list(state["timesteps"]), dtype=torch.float64)
        return cls(Scaling.from_dict(state["quantities"]), parameters, timesteps, state["time_scale"])


def _check_time_scale(timesteps: Tensor, time_scale: str) -> None:
    if time_scale not in TIME_SCALES:
        raise UserError(f"dataset.time_scale: '{time_scale}' is unknown; choose from {', '.join(TIME_SCALES)}")
    if time_scale == "log10" and timesteps[0] <= 0:
        raise UserError(
            f"dataset.time_scale: log10 needs positive times, but the first is {timesteps[0]:g}; choose index or linear"
        )


def _position(times: Tensor, grid: Tensor) -> Tensor:
    """Where ``times`` lie on ``grid``, as a fraction of its intervals, linear within each."""
    n_intervals = len(grid) - 1
    interval = (torch.searchsorted(grid, times.contiguous(), right=True) - 1).clamp(0, n_intervals - 1)
    start, end = grid[interval], grid[interval + 1]
    return (interval + (times - start) / (end - start)) / n_intervals
