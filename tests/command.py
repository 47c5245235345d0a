"""Run the two scripts as a user does: another process, another folder."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
SMALL = [  # the smallest robertson dataset and training that still do everything
    "dataset.generate.n_train=12",
    "dataset.generate.n_test=4",
    "dataset.generate.n_val=4",
    "trainer.epochs=2",
    "trainer.evaluate_every=1",  # Hyperband needs an evaluation before the last epoch
    "trainer.latency_repeats=2",
]


def run(script: str, *arguments: str, folder: Path, prefix: tuple[str, ...] = (), **environment: str):
    """Outcome of ``python <script> <arguments>`` started in ``folder``, where its outputs go."""
    command = [*prefix, sys.executable, str(ROOT / script), *arguments]
    ours = ("HYDRA_FULL_ERROR", "COLUMNS", "LINES")  # the last two are those of whoever started pytest
    inherited = {name: value for name, value in os.environ.items() if name not in ours}
    settings = {**inherited, "OMP_NUM_THREADS": "1", **environment}
    return subprocess.run(
        command, cwd=folder, env=settings, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300
    )
