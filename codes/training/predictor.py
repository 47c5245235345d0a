"""Predictions of a saved surrogate in physical units."""

import warnings
from collections.abc import Container
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from codes.data.dataset import as_array
from codes.data.scaling import Scaling
from codes.device import resolve_device
from codes.errors import OutOfRange, UserError
from codes.training import batches
from codes.training.artifact import Artifact, read_artifact
from codes.training.seen import Outside, Range, outside


class Predictor:
    """A surrogate between physical units.

    Attributes:
        labels: names of the ``Q`` quantities.
        parameter_labels: names of the ``P`` parameters, in their order; p0, p1, ... where the dataset names none.
        timesteps: the time grid ``[T]`` of the training; times between its ends can be predicted.
        seen: lowest and highest initial states and parameters of the training; None where the artifact does not say.
    """

    def __init__(self, artifact: Artifact, device: str | torch.device = "cpu") -> None:
        self.device = torch.device(device)
        self.model = artifact.model.to(self.device).eval().requires_grad_(False)
        self.transform, self.seen = artifact.transform.to(self.device), artifact.seen
        self.labels, self.parameter_labels = artifact.labels, artifact.parameter_labels
        self.timesteps = artifact.transform.timesteps.cpu().numpy()
        seen, parameters = self.seen, self.transform.parameters
        self._x0 = Argument("x0", self.labels, self.transform.quantities, None if seen is None else seen.initial_states)
        self._params = None
        if parameters is not None:
            ranges = None if seen is None else seen.parameters
            self._params = Argument("params", self.parameter_labels, parameters, ranges)
        self._told: set[tuple[str, int]] = set()  # columns of which a warning was given

    def __repr__(self) -> str:
        first, last = self.timesteps[[0, -1]]
        lines = [f"{type(self.model).__name__} on {self.device}, trained for", f"t from {first:.15g} to {last:.15g}"]
        lines += self._x0.describe() + ([] if self._params is None else self._params.describe())
        return "\n  ".join(lines)

    def predict(self, x0: Any, t: Any, params: Any = None) -> Any:
        """States at times ``t`` of the trajectories that start from ``x0``, all in physical units.

        The result can be differentiated by arguments that are tensors with ``requires_grad``. Else the memory beyond
        that of arguments and result is bounded, whatever their size.

        Args:
            x0: states ``[B, Q]`` at the first time of the training grid, also none, or one ``[Q]``; NumPy array,
                tensor or nested list.
            t: times ``[T]`` in any order, within the time grid of the training.
            params: parameters ``[B, P]``, or ``[P]`` for all trajectories; only for data that have them.

        Returns:
            ``[B, T, Q]``, or ``[T, Q]`` for one state; float32 if ``x0`` is, else float64. A tensor on the device of
            the first argument that is a tensor, or an array if none is.

        Raises:
            UserError: a wrong shape, a value that is complex, masked, not finite or has no logarithm, a time outside
                the grid, a prediction beyond float32 where the result is float32.

        Warns:
            OutOfRange: a state or parameter is beyond those that were seen in training; once for each quantity and
                parameter of a loaded surrogate, or at each call where a filter makes it an error.
        """
        tensors = [value for value in (x0, t, params) if isinstance(value, Tensor)]
        differentiable = torch.is_grad_enabled() and any(value.requires_grad for value in tensors)
        with torch.set_grad_enabled(differentiable):
            states = self._tensor("x0", x0)
            batch = _rows("x0", states, None, self.model.spec.n_quantities)
            values = self._parameters(params, len(batch))
            times = self._times(t)
            start, far = self._x0.normalised(batch, self._told)
            p, far_too = None, None
            if self._params is not None and values is not None:
                p, far_too = self._params.normalised(values, self._told)
            predicted = self._predict(start, times, None if p is None else p.expand(len(batch), -1))
        new = [found for found in (far, far_too) if found]
        if new:
            warnings.warn("; ".join(found.said for found in new), OutOfRange, stacklevel=2)
            self._told.update(*(found.columns for found in new))
        predicted = predicted.view(*states.shape[:-1], *predicted.shape[1:])
        if getattr(x0, "dtype", None) in (torch.float32, np.float32):
            exact, predicted = predicted, predicted.float()
            beyond = predicted.isinf() & exact.isfinite()
            _refuse("prediction", exact, beyond, "must fit float32, as x0 is (give it as float64),")
        return predicted.to(tensors[0].device) if tensors else predicted.cpu().numpy()

    def _predict(self, x0: Tensor, t: Tensor, p: Tensor | None) -> Tensor:
        """Physical ``[B, T, Q]`` float64 from normalised arguments, in slices that bound the memory."""
        predicted = torch.empty(len(x0), len(t), x0.shape[1], dtype=torch.float64, device=self.device)
        n_times = min(len(t), batches.EVALUATION_ROWS)
        for rows in batches.chunks(len(x0), n_times):
            for start in range(0, len(t), n_times):
                columns = slice(start, start + n_times)
                normalised = self.model(x0[rows], t[columns], None if p is None else p[rows])
                predicted[rows, columns] = self.transform.inverse(normalised.double())
        return predicted

    def _times(self, t: Any) -> Tensor:
        times = self._tensor("t", t)
        if times.ndim != 1 or len(times) == 0:
            raise UserError(f"t: must have shape [T] with at least one time but has {list(times.shape)}")
        return self.transform.forward_times(times).float()

    def _parameters(self, params: Any, n_trajectories: int) -> Tensor | None:
        """Physical ``[B, P]`` or, for all trajectories, ``[1, P]``."""
        n_parameters = self.model.spec.n_parameters
        if params is None and n_parameters == 0:
            return None
        if params is None or n_parameters == 0:
            raise UserError(f"params: the surrogate takes {n_parameters} parameters but got {params}")
        return _rows("params", self._tensor("params", params), n_trajectories, n_parameters)

    def _tensor(self, name: str, values: Any) -> Tensor:
        """A float64 tensor of ``values``, all finite, on the predictor's device."""
        if values is None:
            raise UserError(f"{name}: must be given, but is None")
        if not isinstance(values, Tensor):
            values = as_array(f"{name}:", values)
        if values.is_complex() if isinstance(values, Tensor) else np.iscomplexobj(values):
            raise UserError(f"{name}: must be real numbers, but they are complex; take their real part")
        try:
            if not isinstance(values, Tensor):  # PyTorch takes neither negative strides nor what cannot be written to
                values = torch.from_numpy(np.require(values, np.float64, ["C", "W"]))
            tensor: Tensor = values
        except (TypeError, ValueError) as error:
            raise UserError(f"{name}: must be an array of numbers: {error}") from error
        tensor = tensor.to(self.device, torch.float64)
        _refuse(name, tensor, ~tensor.isfinite(), "must be finite")
        return tensor


@dataclass
class Argument:
    """An argument ``[n, K]`` of ``predict``: names of its columns, how it is normalised, what was seen in training."""

    name: str
    columns: tuple[str, ...]
    scaling: Scaling
    seen: Range | None
    limits: tuple[Tensor, Tensor] | None = field(init=False)  # of ``seen``, as the surrogate sees them

    def __post_init__(self) -> None:
        self.limits = None if self.seen is None else self.seen.limits(self.scaling)

    def normalised(self, physical: Tensor, told: Container[tuple[str, int]]) -> tuple[Tensor, Outside | None]:
        """``physical`` as the surrogate takes it, and what is outside of what was seen, columns ``told`` aside."""
        scaled = self.scaling.forward(physical)
        normalised = scaled.float()
        _refuse(self.name, physical, ~normalised.isfinite(), "must be positive, since its logarithm is taken,")
        if self.seen is None or self.limits is None:
            return normalised, None
        low, high = self.limits
        excess = torch.maximum(low - scaled, scaled - high)
        return normalised, outside(self.name, self.columns, physical, excess, self.seen, told)

    def describe(self) -> list[str]:
        """A line for each column, or one that says that nothing is known."""
        if self.seen is None:
            return [f"{self.name} in an unknown range"]
        ends = zip(self.columns, self.seen.low.tolist(), self.seen.high.tolist(), strict=True)
        return [f"{self.name}: {column} from {low:g} to {high:g}" for column, low, high in ends]


def _refuse(name: str, values: Tensor, wrong: Tensor, rule: str) -> None:
    if wrong.any():
        index = wrong.nonzero()[0].tolist()
        raise UserError(f"{name}: {rule} but is {values[tuple(index)].item():g} at index {index}")


def _rows(name: str, values: Tensor, n_rows: int | None, n_columns: int) -> Tensor:
    """``values`` as ``[n_rows, n_columns]``, or a single row, which stands for all; refuses any other shape."""
    rows = torch.atleast_2d(values)
    fits = rows.ndim == 2 and rows.shape[1] == n_columns
    if not fits or (n_rows is not None and len(rows) not in (1, n_rows)):
        wanted = f"[{'B' if n_rows is None else n_rows}, {n_columns}] or [{n_columns}]"
        raise UserError(f"{name}: must have shape {wanted} but has {list(values.shape)}")
    return rows


def load(path: str | Path, device: str = "cpu") -> Predictor:
    """The surrogate that ``save_artifact`` wrote to the folder ``path``, ready to predict on ``device``.

    Raises:
        UserError: a file is missing, damaged, of another version, or holds anything that does not belong there; the
            device (``cpu``, ``cuda:0``, ``auto`` …) is not on this machine.
    """
    return Predictor(read_artifact(Path(path)), resolve_device(str(device)))
