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


def start(*command: str, folder: Path, new_session: bool = False, stdin: int | None = None, **environment: str):
    """``python <command>`` started in ``folder``, as a ``Popen`` or what is like one."""
    settings = _settings(environment)
    if preloaded.serves(environment):
        return preloaded.Started(list(command), folder, settings, stdin=stdin, new_session=new_session)
    pipe = subprocess.PIPE
    places = {"cwd": folder, "env": settings, "start_new_session": new_session}
    return subprocess.Popen([sys.executable, *command], stdin=stdin, stdout=pipe, stderr=pipe, text=True, **places)


def _settings(environment: dict[str, str]) -> dict[str, str]:
    """Variables of a command: those of this process, and ``environment``."""
    ours = ("HYDRA_FULL_ERROR", "COLUMNS", "LINES")  # the last two are those of whoever started pytest
    inherited = {name: value for name, value in os.environ.items() if name not in ours}
    return {**inherited, "OMP_NUM_THREADS": "1", **environment}


def _outcome(command: list[str], folder: Path, environment: dict[str, str], prefix: tuple[str, ...] = ()):
    settings = _settings(environment)
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
