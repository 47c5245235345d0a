"""Predictions of a saved surrogate in physical units."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from codes.data import Transform
from codes.errors import UserError
from codes.surrogates.base import Surrogate
from codes.training.artifact import read_artifact
from codes.training.batches import chunks
from codes.training.evaluation import inference


class Predictor:
    """A surrogate between physical units.

    Attributes:
        labels: names of the ``Q`` quantities.
        timesteps: the time grid ``[T]`` of the training; times between its ends can be predicted.
    """

    def __init__(
        self, model: Surrogate, transform: Transform, labels: tuple[str, ...], device: str | torch.device = "cpu"
    ) -> None:
        self.device = torch.device(device)
        self.model, self.transform, self.labels = model.to(self.device).eval(), transform.to(self.device), labels
        self.timesteps = transform.timesteps.cpu().numpy()

    def predict(self, x0: Any, t: Any, params: Any = None) -> Any:
        """States at times ``t`` of the trajectories that start from ``x0``, all in physical units.

        Args:
            x0: initial states ``[B, Q]``, or one ``[Q]``; NumPy array, tensor or nested list.
            t: times ``[T]`` in any order, within the time grid of the training.
            params: parameters ``[B, P]``, or ``[P]`` for all trajectories; only for data that have them.

        Returns:
            ``[B, T, Q]``, or ``[T, Q]`` for one state: a tensor on the device of ``x0`` if ``x0`` is a tensor, else an
            array; float32 if ``x0`` is, else float64.

        Raises:
            UserError: a wrong shape, a value that is not finite or has no logarithm, a time outside the grid.
        """
        states = self._tensor("x0", x0)
        batch = torch.atleast_2d(states)
        _check_shape("x0", batch, None, self.model.spec.n_quantities)
        p = self._parameters(params, len(batch))
        times = self._times(t)
        predicted = self._predict(self._normalised("x0", batch, self.transform.forward), times, p)
        predicted = predicted.view(*states.shape[:-1], *predicted.shape[1:])
        if getattr(x0, "dtype", None) in (torch.float32, np.float32):
            predicted = predicted.float()
        return predicted.to(x0.device) if isinstance(x0, Tensor) else predicted.cpu().numpy()

    def _predict(self, x0: Tensor, t: Tensor, p: Tensor | None) -> Tensor:
        """Physical ``[B, T, Q]`` float64 from normalised arguments, in slices that bound the memory."""
        predicted = torch.empty(len(x0), len(t), x0.shape[1], dtype=torch.float64, device=self.device)
        with inference(self.model):
            for part in chunks(len(x0), len(t)):
                normalised = self.model(x0[part], t, None if p is None else p[part])
                predicted[part] = self.transform.inverse(normalised.double())
        return predicted

    def _times(self, t: Any) -> Tensor:
        times = self._tensor("t", t)
        if times.ndim != 1 or len(times) == 0:
            raise UserError(f"t: must have shape [T] with at least one time but has {list(times.shape)}")
        return self.transform.forward_times(times).float()

    def _parameters(self, params: Any, n_trajectories: int) -> Tensor | None:
        n_parameters = self.model.spec.n_parameters
        if params is None and n_parameters == 0:
            return None
        if params is None or n_parameters == 0:
            raise UserError(f"params: the surrogate takes {n_parameters} parameters but got {params}")
        values = torch.atleast_2d(self._tensor("params", params))
        _check_shape("params", values, n_trajectories, n_parameters)
        return self._normalised("params", values, self.transform.forward_params).expand(n_trajectories, -1)

    def _tensor(self, name: str, values: Any) -> Tensor:
        """A float64 tensor of ``values``, all finite, on the predictor's device."""
        try:
            tensor = torch.as_tensor(values if isinstance(values, Tensor) else np.asarray(values, np.float64))
        except (TypeError, ValueError) as error:
            raise UserError(f"{name}: must be an array of numbers: {error}") from error
        tensor = tensor.detach().to(self.device, torch.float64)
        _refuse(name, tensor, ~tensor.isfinite(), "must be finite")
        return tensor

    def _normalised(self, name: str, physical: Tensor, forward: Callable[[Tensor], Tensor]) -> Tensor:
        normalised = forward(physical).float()
        _refuse(name, physical, ~normalised.isfinite(), "must be positive, since its logarithm is taken,")
        return normalised


def _refuse(name: str, values: Tensor, wrong: Tensor, rule: str) -> None:
    if wrong.any():
        index = wrong.nonzero()[0].tolist()
        raise UserError(f"{name}: {rule} but is {values[tuple(index)].item():g} at index {index}")


def _check_shape(name: str, values: Tensor, n_rows: int | None, n_columns: int) -> None:
    """Refuse anything but ``[n_rows, n_columns]``; a single row stands for all."""
    fits = values.ndim == 2 and values.shape[1] == n_columns and len(values) > 0
    if not fits or (n_rows is not None and len(values) not in (1, n_rows)):
        rows = "B" if n_rows is None else n_rows
        raise UserError(f"{name}: must have shape [{rows}, {n_columns}] or [{n_columns}] but has {list(values.shape)}")


def load(path: str | Path, device: str | torch.device = "cpu") -> Predictor:
    """The surrogate that ``save_artifact`` wrote to the folder ``path``, ready to predict on ``device``.

    Raises ``UserError`` for files that are missing, damaged, or hold anything that does not belong there.
    """
    model, transform, labels = read_artifact(Path(path))
    return Predictor(model, transform, labels, device)
