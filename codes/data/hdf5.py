"""Datasets as HDF5 files.

Layout: ``train``, ``test``, ``val`` ``[n, n_timesteps, n_quantities]``; optional ``train_params``, ``test_params``,
``val_params`` ``[n, n_parameters]``; optional ``timesteps`` ``[n_timesteps]``; optional attributes ``labels`` (names of
the quantities), ``parameter_labels`` and ``n_train_samples`` (trajectories in ``train``). The public datasets have the
same layout.
"""

import logging
import os
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import ArrayLike, NDArray

from codes.data.dataset import (
    ARRAYS,
    SPLITS,
    Dataset,
    Split,
    any_blank,
    as_array,
    check_layout,
    check_values,
    numbered,
    warn_if_shared,
)
from codes.errors import UserError
from codes.schema import DataSpec

log = logging.getLogger(__name__)

__all__ = ["Dataset", "Split", "read_dataset", "read_spec", "write_dataset"]

COLUMN = {"labels": "quantity", "parameter_labels": "parameter"}  # what an attribute of a file names


def read_dataset(path: str | Path) -> Dataset:
    """Read and check a dataset; without ``timesteps`` they are 0, 1, 2, ..., without labels they are q0, q1, ...

    Those of parameters are p0, p1, ... Arrays stay float32 or become float64.

    Raises:
        UserError: the file cannot be read or breaks a rule; names file, split and index.
    """
    path = Path(path)
    with _reading(path) as file:
        stored, labels, parameter_labels = _stored(path, file), *_labels(path, file)
        _warn_of_unknown(path, file)
        for columns, given in (("quantities", labels), ("parameters", parameter_labels)):
            if given is not None and len(set(given)) < len(given):
                log.warning(f"{path}: two {columns} have one label, so nothing tells them apart: {', '.join(given)}")
            if given is not None and any_blank(given):
                log.warning(f"{path}: one of the {columns} has a blank label: {', '.join(map(repr, given))}")
        spec = check_layout(str(path), stored, labels, parameter_labels)
        arrays = {key: _load(array) for key, array in stored.items()}
    check_values(str(path), arrays, labels, parameter_labels)
    warn_if_shared(str(path), arrays)
    timesteps = arrays.get("timesteps", np.arange(spec.n_timesteps))
    splits = {split: Split(arrays[split], arrays.get(f"{split}_params")) for split in SPLITS}
    names = labels if labels is not None else numbered("q", spec.n_quantities)
    return Dataset(path, timesteps.astype(np.float64), names, **splits, parameter_labels=parameter_labels or ())


def read_spec(path: str | Path) -> DataSpec:
    """Shapes of a dataset, checked, without reading its values; raises ``UserError`` as ``read_dataset`` does."""
    path = Path(path)
    with _reading(path) as file:
        return check_layout(str(path), _stored(path, file), *_labels(path, file))


def write_dataset(
    path: str | Path,
    train: ArrayLike,
    test: ArrayLike,
    val: ArrayLike,
    *,
    timesteps: ArrayLike | None = None,
    labels: Sequence[str] | None = None,
    train_params: ArrayLike | None = None,
    test_params: ArrayLike | None = None,
    val_params: ArrayLike | None = None,
    parameter_labels: Sequence[str] | None = None,
) -> Path:
    """Write a dataset that ``read_dataset`` accepts; one array is split by ``split_trajectories``.

    The file appears whole or not at all, and replaces one of the same name. float32 stays, everything else is float64.

    Args:
        path: File to write; missing folders are made.
        train, test, val: Trajectories ``[n, n_timesteps, n_quantities]`` in physical units.
        timesteps: Strictly increasing times ``[n_timesteps]``.
        labels: Names of the quantities.
        train_params, test_params, val_params: Parameters ``[n, n_parameters]``, for all splits or none.
        parameter_labels: Names of the parameters.

    Raises:
        UserError: the arrays break a rule, or the file cannot be written.
    """
    given = (train, test, val, train_params, test_params, val_params, timesteps)
    arrays = {
        key: _working(as_array(f"{path}: '{key}'", array))
        for key, array in zip(ARRAYS, given, strict=True)
        if array is not None
    }
    given_labels = {"labels": labels, "parameter_labels": parameter_labels}
    names = {key: None if value is None else _names(str(path), key, value) for key, value in given_labels.items()}
    check_layout(str(path), arrays, **names)
    check_values(str(path), arrays, **names)
    warn_if_shared(str(path), arrays)
    with _writing(Path(path)) as file:
        for key, array in arrays.items():
            file.create_dataset(key, data=array)
        file.attrs["n_train_samples"] = len(arrays["train"])
        for key, value in names.items():
            if value is not None:
                file.attrs[key] = value
    return Path(path)


@contextmanager
def _reading(path: Path) -> Iterator[h5py.File]:
    if not path.exists():
        raise UserError(f"{path} does not exist")
    if path.is_dir():
        raise UserError(f"{path} is a folder, not an HDF5 file")
    try:
        with h5py.File(path, "r") as file:
            yield file
    except (OSError, KeyError, RuntimeError, ValueError) as error:  # h5py's words for damage, depending on its place
        if os.access(path, os.R_OK) and not h5py.is_hdf5(path):
            raise UserError(f"{path} is not an HDF5 file") from error
        known: dict[type[Exception], str] = {
            PermissionError: "check its permissions",
            BlockingIOError: "close it in the program that writes it",
        }
        advice = known.get(type(error), "it may be cut off, get it again")
        raise UserError(f"{path} cannot be read: {_reason(error)}; {advice}") from error


@contextmanager
def _writing(path: Path) -> Iterator[h5py.File]:
    beside = path.with_name(f".{uuid.uuid4().hex}.part")  # whatever the length of its name
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with h5py.File(beside, "w") as file:
                yield file
            os.replace(beside, path)
        finally:
            beside.unlink(missing_ok=True)
    except (OSError, RuntimeError) as error:  # HDF5 reports a disk that fills up on closing as RuntimeError
        raise UserError(f"{path} cannot be written: {_reason(error)}; check the folder and its free space") from error


def _reason(error: Exception) -> str:
    number = getattr(error, "errno", None)
    return os.strerror(number) if number else " ".join(str(error.args[0]).split())


def _stored(path: Path, file: h5py.File) -> dict[str, h5py.Dataset]:
    stored = {key: file[key] for key in ARRAYS if key in file}
    for key, array in stored.items():
        if not isinstance(array, h5py.Dataset) or array.shape is None:
            raise UserError(f"{path}: '{key}' is not an array")
        _check_written(path, key, array, file)
    return stored


def _check_written(path: Path, key: str, array: h5py.Dataset, file: h5py.File) -> None:
    """Refuse values that are not in the file: HDF5 makes up, mostly as 0, what nobody wrote or what it does not find.

    It does so without a word, and the checksum of a file says nothing about what lies elsewhere.
    """
    if array.is_virtual or array.external or array.file.filename != file.filename:
        raise UserError(
            f"{path}: '{key}' lies in other files; copy its values into this one, by codes.data.write_dataset"
        )
    if array.size and array.id.get_space_status() != h5py.h5d.SPACE_STATUS_ALLOCATED:
        raise UserError(f"{path}: '{key}' was not written to its end; write all {list(array.shape)} of it")


def _names(name: str, key: str, labels: Sequence[str]) -> list[str]:
    """Labels that HDF5 can hold."""
    column = COLUMN[key]
    if isinstance(labels, str):
        raise UserError(f"{name}: {key} must be a list of names, one per {column}, but is {labels!r}")
    for label in labels:
        if not isinstance(label, str) or "\0" in label or not label.strip():
            raise UserError(f"{name}: {key} must be texts, not blank, without NUL characters, but one is {label!r}")
    if len(set(labels)) < len(labels):
        raise UserError(f"{name}: each {column} needs a label of its own; got {', '.join(labels)}")
    return [str(label) for label in labels]


def _warn_of_unknown(path: Path, file: h5py.File) -> None:
    names = [key for key in file if isinstance(key, str)]  # one that is not UTF-8 is bytes
    unknown = [name for name in names if name not in ARRAYS and name.startswith((*SPLITS, "time"))]
    if unknown:
        log.warning(f"{path}: {', '.join(unknown)} is not read; what is read is {', '.join(ARRAYS)}")


def _labels(path: Path, file: h5py.File) -> list[tuple[str, ...] | None]:
    """Those of the quantities and of the parameters; None where there are none."""
    return [
        tuple(_text(path, key, label) for label in np.ravel(file.attrs[key])) if key in file.attrs else None
        for key in COLUMN
    ]


def _text(path: Path, key: str, label: Any) -> str:
    try:
        text = label.decode() if isinstance(label, bytes) else str(label)
        text.encode()  # h5py hides bytes that are not UTF-8 in surrogates
    except UnicodeError as error:
        raise UserError(f"{path}: the label {label!r} is not UTF-8; write the attribute '{key}' again") from error
    return text


def _load(stored: h5py.Dataset) -> NDArray[Any]:
    """The whole array, converted by HDF5 in small buffers."""
    array = np.empty(stored.shape, _working_dtype(stored.dtype))
    stored.read_direct(array)
    return array


def _working(values: NDArray[Any]) -> NDArray[Any]:
    return values.astype(_working_dtype(values.dtype), copy=False) if values.dtype.kind in "fiu" else values


def _working_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return np.dtype(np.float32 if dtype.kind == "f" and dtype.itemsize <= 4 else np.float64)
