"""Run the two scripts as a user does: another process, another folder."""

import os
import subprocess
import sys
from pathlib import Path

from tests import preloaded

ROOT = preloaded.ROOT
SMALL = [  # the smallest robertson dataset and training that still do everything
    "dataset.generate.n_train=12",
    "dataset.generate.n_test=4",
    "dataset.generate.n_val=4",
    "trainer.epochs=2",
    "trainer.evaluate_every=1",  # Hyperband needs an evaluation before the last epoch
    "trainer.latency_repeats=2",
]


def module(name: str, *arguments: str, folder: Path, **environment: str):
    """Outcome of ``python -m <name> <arguments>`` started in ``folder``."""
    return _outcome(["-m", name, *arguments], folder, environment)


def run(script: str, *arguments: str, folder: Path, prefix: tuple[str, ...] = (), **environment: str):
    """Outcome of ``python <script> <arguments>`` started in ``folder``, where its outputs go."""
    return _outcome([str(ROOT / script), *arguments], folder, environment, prefix)


def _outcome(command: list[str], folder: Path, environment: dict[str, str], prefix: tuple[str, ...] = ()):
    ours = ("HYDRA_FULL_ERROR", "COLUMNS", "LINES")  # the last two are those of whoever started pytest
    inherited = {name: value for name, value in os.environ.items() if name not in ours}
    settings = {**inherited, "OMP_NUM_THREADS": "1", **environment}
    if not prefix and preloaded.serves(environment):
        return preloaded.run(command, folder, settings)
    return subprocess.run(
        [*prefix, sys.executable, *command],
        cwd=folder,
        env=settings,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=preloaded.TIMEOUT,
    )
