"""Datasets made by integrating a built-in ODE system, on first use, into a cache."""

import hashlib
import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

import codes.data.systems
from codes.data.hdf5 import write_dataset
from codes.data.systems import SYSTEMS, System
from codes.errors import UserError
from codes.limits import check
from codes.schema import GenerateConfig

log = logging.getLogger(__name__)

SOURCES = (Path(__file__), *sorted(Path(codes.data.systems.__file__).parent.glob("*.py")))


def generate(config: GenerateConfig, data_dir: Path) -> Path:
    """Path of the dataset that ``config`` describes; integrated and written if ``data_dir`` does not hold it yet.

    All initial conditions and parameters come from one generator, in one draw: the first ``n_train`` trajectories are
    for training, then come ``n_test`` and ``n_val``, so that splits share none. The same config gives the same file. It
    appears whole or not at all, also when two processes generate it at once.

    Raises:
        UserError: the system is unknown, a count or the seed is too small, the folder cannot be written, or the solver
            gives up.
    """
    _check(config)
    system = SYSTEMS[config.system]
    path = Path(data_dir) / f"{config.system}_{_digest(config)}.h5"
    if path.exists():
        return path
    _check_folder(path.parent)
    counts = (config.n_train, config.n_test, config.n_val)
    log.info("Integrating %d trajectories of %s, to be kept as %s", sum(counts), config.system, path)
    states, parameters = system.draw(np.random.default_rng(config.seed), sum(counts))
    trajectories = np.stack(list(_trajectories(system, states, parameters)))
    borders = np.cumsum(counts)[:-1]
    params = [None, None, None] if parameters is None else np.split(parameters, borders)
    return write_dataset(
        path,
        *np.split(trajectories, borders),
        timesteps=system.timesteps,
        labels=system.labels,
        train_params=params[0],
        test_params=params[1],
        val_params=params[2],
        parameter_labels=system.parameter_labels,
    )


def _check(config: GenerateConfig) -> None:
    if config.system not in SYSTEMS:
        raise UserError(f"dataset.generate.system: '{config.system}' is unknown; choose from {', '.join(SYSTEMS)}")
    check(config, "dataset.generate")


def _check_folder(folder: Path) -> None:
    """Before the work, not after it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"dataset.data_dir: {folder} cannot be made ({error})") from error
    if not os.access(folder, os.W_OK):
        raise UserError(f"dataset.data_dir: {folder} cannot be written; choose another folder")


def _digest(config: GenerateConfig) -> str:
    """Short hash of all that determines the content: the config, and the code with its equations and tolerances."""
    drawn = {key: getattr(config, key) for key in ("system", "n_train", "n_test", "n_val", "seed")}
    code = [path.read_text(encoding="utf-8") for path in SOURCES]
    return hashlib.sha256(json.dumps([drawn, code]).encode()).hexdigest()[:12]


def _trajectories(
    system: System, states: NDArray[np.float64], parameters: NDArray[np.float64] | None
) -> Iterator[NDArray[np.float64]]:
    """Each trajectory ``[T, Q]``, with a progress bar on a terminal."""
    rows = [None] * len(states) if parameters is None else list(parameters)
    progress = tqdm(zip(states, rows, strict=True), f"Integrating {system.name}", len(states), disable=None)
    for index, (state, row) in enumerate(progress):
        yield _integrate(system, index, state, row)


def _integrate(
    system: System, index: int, state: NDArray[np.float64], parameters: NDArray[np.float64] | None
) -> NDArray[np.float64]:
    try:
        solution = system.solve(state, parameters)
        reason = solution.message if not solution.success else "the solution is not finite"
        if solution.success and np.isfinite(solution.y).all():
            return np.asarray(solution.y.T, dtype=np.float64)
    except ArithmeticError as error:
        reason = str(error)
    start = ", ".join(f"{label} = {value:.6g}" for label, value in zip(system.labels, state, strict=True))
    named = zip(system.parameter_labels or (), [] if parameters is None else parameters, strict=True)
    drawn = "".join(f", {label} = {value:.6g}" for label, value in named)
    raise UserError(
        f"{system.name}: {system.method} cannot integrate trajectory {index} from {start}{drawn}: {reason} "
        "(another dataset.generate.seed draws other initial conditions)"
    )
