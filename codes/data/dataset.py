"""What a dataset is: three splits of trajectories on one time grid, and the rules they obey."""

import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from codes.errors import UserError
from codes.schema import DataSpec

log = logging.getLogger(__name__)

SPLITS = ("train", "test", "val")
ARRAYS = (*SPLITS, *(f"{split}_params" for split in SPLITS), "timesteps")
Labels = Sequence[str] | None
_CHUNK = 2**19  # values handled in one piece: 4 MiB of float64


@dataclass(frozen=True)
class Split:
    """Trajectories ``[n, T, Q]`` and their parameters ``[n, P]``, both in physical units."""

    trajectories: NDArray[Any]
    parameters: NDArray[Any] | None = None

    def __len__(self) -> int:
        return len(self.trajectories)


@dataclass(frozen=True)
class Dataset:
    """A whole dataset in physical units; ``train`` fits, ``test`` chooses, ``val`` gives the final score."""

    path: Path
    timesteps: NDArray[np.float64]
    labels: tuple[str, ...]
    train: Split
    test: Split
    val: Split
    parameter_labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.parameter_labels:
            object.__setattr__(self, "parameter_labels", numbered("p", self.spec.n_parameters))

    @property
    def spec(self) -> DataSpec:
        """Shapes of the dataset."""
        _, n_timesteps, n_quantities = self.train.trajectories.shape
        parameters = self.train.parameters
        return DataSpec(n_quantities, 0 if parameters is None else parameters.shape[1], n_timesteps)

    def splits(self) -> Iterator[tuple[str, Split]]:
        """``("train", train), ("test", test), ("val", val)``."""
        return ((name, getattr(self, name)) for name in SPLITS)

    def fingerprint(self) -> str:
        """SHA-256 of all values and their shapes; not of path and labels, which no training depends on."""
        content = hashlib.sha256()
        for array in [
            self.timesteps,
            *(a for _, split in self.splits() for a in (split.trajectories, split.parameters)),
        ]:
            if array is not None:
                content.update(f"{array.dtype} {array.shape}".encode())
                for rows in chunks(array):
                    content.update(np.ascontiguousarray(array[rows]).data)
        return content.hexdigest()


def numbered(letter: str, count: int) -> tuple[str, ...]:
    """Labels of columns that nobody has named."""
    return tuple(f"{letter}{i}" for i in range(count))


def told_apart(labels: tuple[str, ...]) -> tuple[str, ...]:
    """``labels`` of quantities as keys: q0, q1, ... where two are the same or one is blank, as in a file of others."""
    return labels if len(set(labels)) == len(labels) and not any_blank(labels) else numbered("q", len(labels))


def any_blank(labels: Sequence[str]) -> bool:
    """Whether a label names nothing."""
    return not all(label.strip() for label in labels)


class Shaped(Protocol):
    """An array in memory or in a file: only what can be known without reading it."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> np.dtype[Any]: ...


def as_array(name: str, values: ArrayLike) -> NDArray[Any]:
    """``values`` as an array.

    Raises:
        UserError: some are masked, or lists of them differ in length; the message begins with ``name``.
    """
    if any(map(np.ma.is_masked, values if isinstance(values, list | tuple) else [values])):
        raise UserError(f"{name} has masked values, which no surrogate knows of; fill them or leave them out")
    try:
        return np.asarray(values)
    except ValueError as error:
        raise UserError(f"{name} must be one array, but its rows differ in shape: {error}") from error


def chunks(array: NDArray[Any]) -> Iterator[slice]:
    """Slices along the first axis, small enough that float64 copies and masks of one are cheap."""
    step = max(1, _CHUNK // max(1, array[:1].size))
    return (slice(start, start + step) for start in range(0, len(array), step))


def check_layout(name: str, arrays: Mapping[str, Shaped], labels: Labels, parameter_labels: Labels) -> DataSpec:
    """Shapes of a dataset, from its arrays by their names in the file, without reading a value.

    Raises:
        UserError: ``name`` lacks a split, or an array has a wrong type or shape; the message names the array.
    """
    for split in SPLITS:
        if split not in arrays:
            found = ", ".join(arrays) or "none of the expected arrays"
            raise UserError(f"{name}: split '{split}' is missing; needs {', '.join(SPLITS)}, found {found}")
    for key, array in arrays.items():
        if array.dtype.kind not in "fiu":
            raise UserError(f"{name}: '{key}' has type {array.dtype}; needs real numbers")
    _, n_timesteps, n_quantities = _trajectory_shapes(name, arrays)
    n_parameters = _parameter_columns(name, arrays)
    if "timesteps" in arrays and arrays["timesteps"].shape != (n_timesteps,):
        shape = list(arrays["timesteps"].shape)
        raise UserError(f"{name}: 'timesteps' has shape {shape}, but the trajectories have {n_timesteps} timesteps")
    if labels is not None and len(labels) != n_quantities:
        raise UserError(f"{name}: {len(labels)} labels for {n_quantities} quantities; got {', '.join(labels)}")
    if parameter_labels is not None and len(parameter_labels) != n_parameters:
        got = ", ".join(parameter_labels)
        raise UserError(f"{name}: {len(parameter_labels)} parameter_labels for {n_parameters} parameters; got {got}")
    return DataSpec(n_quantities, n_parameters, n_timesteps)


def check_values(
    name: str, arrays: Mapping[str, NDArray[Any]], labels: Labels = None, parameter_labels: Labels = None
) -> None:
    """Every value finite, the timesteps strictly increasing.

    Raises:
        UserError: the message names the array and the index of the first bad value.
    """
    for key, array in arrays.items():
        index = first_index(array, lambda values: ~np.isfinite(values))
        if index is not None:
            where = locate_value(key, index, labels, parameter_labels)
            raise UserError(f"{name}: {where} is {array[index]}; every value must be finite")
    if "timesteps" in arrays:
        timesteps = arrays["timesteps"]
        for i in np.flatnonzero(np.diff(timesteps) <= 0)[:1]:
            raise UserError(
                f"{name}: 'timesteps' must increase strictly, "
                f"but timesteps[{i}] = {timesteps[i]:.15g} and timesteps[{i + 1}] = {timesteps[i + 1]:.15g}"
            )


def first_index(array: NDArray[Any], is_bad: Callable[[NDArray[Any]], NDArray[Any]]) -> tuple[int, ...] | None:
    """Index of the first value for which ``is_bad(values) -> mask`` holds, without a mask of the whole array."""
    for rows in chunks(array):
        bad = is_bad(array[rows])
        if bad.any():
            index = np.unravel_index(int(bad.argmax()), bad.shape)
            return (rows.start + int(index[0]), *(int(i) for i in index[1:]))
    return None


def locate_value(key: str, index: Sequence[int], labels: Labels, parameter_labels: Labels) -> str:
    """How one value of an array is named in a message: ``train[3, 17, 2] (H2+)``, with the label of its column."""
    names = labels if key in SPLITS else parameter_labels if key.endswith("_params") else None
    label = f" ({names[index[-1]]})" if names is not None else ""
    return f"{key}[{', '.join(map(str, index))}]{label}"


def warn_if_shared(name: str, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Log a warning for trajectories that an earlier one of the splits train, test, val holds too.

    No score on them can be trusted. Two trajectories are the same if first state, last state and parameters are equal
    bit for bit.
    """
    found = {split: list(_fingerprints(arrays, split)) for split in SPLITS}
    for earlier, split in combinations(SPLITS, 2):
        known = set(found[earlier])
        shared = sum(fingerprint in known for fingerprint in found[split])
        if shared:
            n = len(arrays[split])
            log.warning(
                f"{name}: {shared} of {n} trajectories of '{split}' are in '{earlier}' too; scores on it flatter"
            )


def split_trajectories(
    trajectories: ArrayLike,
    parameters: ArrayLike | None = None,
    *,
    fractions: tuple[float, float, float] = (0.7, 0.15, 0.15),
    seed: int = 0,
) -> dict[str, NDArray[Any]]:
    """Deal trajectories ``[n, ...]`` and their parameters ``[n, P]`` out to train, test and val at random, each to one.

    The result is ready for ``write_dataset(path, **split_trajectories(trajectories), timesteps=t)``.

    Raises:
        UserError: fractions that are negative or do not add up to 1, a split left empty, parameters of another length,
            masked values, lists of unequal length.
    """
    x = as_array("trajectories", trajectories)
    p = None if parameters is None else as_array("parameters", parameters)
    if min(fractions) < 0 or not np.isclose(sum(fractions), 1):
        raise UserError(f"fractions of train, test and val must be positive and add up to 1, got {fractions}")
    if p is not None and len(p) != len(x):
        raise UserError(f"parameters has {len(p)} rows for {len(x)} trajectories")
    ends = np.rint(np.cumsum(fractions)[:2] * len(x)).astype(int)
    dealt = np.split(np.random.default_rng(seed).permutation(len(x)), ends)
    if any(len(rows) == 0 for rows in dealt):
        raise UserError(f"{len(x)} trajectories are too few for fractions {fractions}: a split would be empty")
    arrays = {split: x[rows] for split, rows in zip(SPLITS, dealt, strict=True)}
    if p is not None:
        arrays |= {f"{split}_params": p[rows] for split, rows in zip(SPLITS, dealt, strict=True)}
    return arrays


def _trajectory_shapes(name: str, arrays: Mapping[str, Shaped]) -> tuple[int, int, int]:
    for split in SPLITS:
        shape = arrays[split].shape
        if len(shape) != 3:
            raise UserError(f"{name}: '{split}' has shape {list(shape)}; needs [n, n_timesteps, n_quantities]")
        if 0 in shape:
            raise UserError(f"{name}: '{split}' is empty, its shape is {list(shape)}")
        if shape[1:] != arrays["train"].shape[1:]:
            raise UserError(
                f"{name}: '{split}' has {shape[1]} timesteps and {shape[2]} quantities, "
                f"but 'train' has {arrays['train'].shape[1]} and {arrays['train'].shape[2]}"
            )
    n, n_timesteps, n_quantities = arrays["train"].shape
    if n_timesteps < 2:
        raise UserError(f"{name}: a trajectory needs at least 2 timesteps, 'train' has {n_timesteps}")
    return n, n_timesteps, n_quantities


def _parameter_columns(name: str, arrays: Mapping[str, Shaped]) -> int:
    given = [split for split in SPLITS if f"{split}_params" in arrays]
    if not given:
        return 0
    for split in SPLITS:
        key = f"{split}_params"
        if split not in given:
            raise UserError(f"{name}: '{key}' is missing, but there is '{given[0]}_params'; give all three or none")
        shape, columns = arrays[key].shape, arrays[f"{given[0]}_params"].shape[-1:]
        if len(shape) != 2 or shape[1] == 0:
            raise UserError(f"{name}: '{key}' has shape {list(shape)}; needs [n, n_parameters]")
        if shape[0] != arrays[split].shape[0]:
            raise UserError(f"{name}: '{key}' has {shape[0]} rows for {arrays[split].shape[0]} trajectories")
        if shape[1:] != columns:
            raise UserError(f"{name}: '{key}' has {shape[1]} columns, but '{given[0]}_params' has {columns[0]}")
    return arrays[f"{given[0]}_params"].shape[1]


def _fingerprints(arrays: Mapping[str, NDArray[Any]], split: str) -> Iterator[int]:
    parameters = arrays.get(f"{split}_params")
    for i, trajectory in enumerate(arrays[split]):
        ends = trajectory[0].tobytes() + trajectory[-1].tobytes()
        yield hash(ends if parameters is None else ends + parameters[i].tobytes())
