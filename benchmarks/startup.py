"""How long a user waits before anything is trained: ``python -m benchmarks.startup``.

1. ``python tune.py --help``; target 1.5 s.
2. From the command to the end of the first trial, one epoch of one step on a dataset that is there: an upper bound of
   the time to the first training step; target 8 s on two cores.

Wall-clock and CPU seconds (of the command and its workers) of each run, and their medians. A machine that does
something else adds to the first, not to the second.
"""

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
from datetime import datetime
from pathlib import Path
from time import perf_counter

import optuna

from benchmarks.record import keep
from codes.storage.sqlite import open_file

ROOT = Path(__file__).parents[1]
TARGETS = {"help": 1.5, "first step": 8.0}
ONE_STEP = ["trainer.epochs=1", "trainer.batch_size=1000000", "trainer.latency_repeats=1", "pruner=none"]


def timed(*arguments: str) -> dict[str, float]:
    """``python tune.py`` with ``arguments``: seconds until it ends, and CPU seconds of it and its children."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), perf_counter()
    subprocess.run([sys.executable, "tune.py", *arguments], cwd=ROOT, check=True, capture_output=True)
    wall, after = perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return {"wall": wall, "cpu": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime}


def first_step() -> dict[str, float]:
    """Seconds from the command to the end of a study's first trial, and CPU seconds of the whole command."""
    with tempfile.TemporaryDirectory() as folder:
        places = [f"storage.path={folder}/study.db", f"output_dir={folder}/out", "devices=[cpu]", "trials=1"]
        start = datetime.now()
        whole = timed(*places, *ONE_STEP)
        study = optuna.load_study(study_name=None, storage=open_file(Path(folder) / "study.db"))
        ended = study.trials[0].datetime_complete
        assert ended is not None
    return {"wall": (ended - start).total_seconds(), "cpu": whole["cpu"]}


def main() -> None:
    """Run each way several times, print a table, write one JSON file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.startup", description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    first_step()  # makes the dataset, and Python's own caches
    ways = {"help": lambda: timed("--help"), "first step": first_step}
    runs = {name: [way() for _ in range(repeats)] for name, way in ways.items()}
    print(f"{'seconds, median':<18}{'wall':>8}{'cpu':>8}{'target':>8}")
    medians = {}
    for name, of in runs.items():
        medians[name] = {key: statistics.median(run[key] for run in of) for key in ("wall", "cpu")}
        print(f"{name:<18}{medians[name]['wall']:>8.2f}{medians[name]['cpu']:>8.2f}{TARGETS[name]:>8.1f}")
    keep("startup", **medians, runs=runs)


if __name__ == "__main__":
    main()
