"""Where the time of a study's slot goes: ``python -m benchmarks.profile``.

For each surrogate a real study on the workload of ``benchmarks.workload`` (its defaults, ten trials of 20 epochs, no
pruner, one slot, SQLite), by ``run_study`` and a real worker. The worker's side is timed by wrapping functions of the
product from outside, here; what runs is the same. ``waiting`` is the rest: reports, messages, proposals, database.
Wall-clock, from the start of the worker's process to the end of its last trial.
"""

import argparse
import json
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
from omegaconf import DictConfig

from benchmarks.record import keep
from benchmarks.workload import linear_dataset

PHASES = (
    *("process start", "data", "build", "memory check", "forward", "backward", "optimiser", "evaluation"),
    *("latency measurement", "saving", "other", "waiting"),
)
spent: dict[str, float] = defaultdict(float)
stack: list[float] = []  # seconds of phases inside of the running ones


def timed(phase: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """``function``, whose own time, without that of timed functions that it calls, counts as ``phase``."""

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        start = time.perf_counter()
        stack.append(0.0)
        try:
            return function(*args, **kwargs)
        finally:
            whole, inner = time.perf_counter() - start, stack.pop()
            spent[phase] += whole - inner
            if stack:
                stack[-1] += whole

    return wrapped


def functions() -> list[tuple[Any, str, str]]:
    """What is timed: owner, name, phase."""
    import torch

    import train
    from codes import data, surrogates, training
    from codes.surrogates.base import Surrogate
    from codes.surrogates.latent import LatentSurrogate
    from codes.training import optim, progress, trainer

    return [
        (data, "load_data_once", "data"),
        (surrogates, "build", "build"),
        (trainer, "check_fits", "memory check"),
        (Surrogate, "loss", "forward"),
        (LatentSurrogate, "loss", "forward"),
        (torch.Tensor, "backward", "backward"),
        (optim.Optimizer, "begin_step", "optimiser"),
        (optim.Optimizer, "apply", "optimiser"),
        (progress, "evaluate", "evaluation"),
        (progress, "measure_latency", "latency measurement"),
        (training, "save_artifact", "saving"),
        (train, "run_trial", "other"),
    ]


def warm_up() -> None:
    """The worker's own, after which the functions of a trial are timed."""
    import train

    train.warm_up()
    for owner, name, phase in functions():
        setattr(owner, name, timed(phase, getattr(owner, name)))
    spent["process start"] = time.time() - started()


def started() -> float:
    """When this process was started, in seconds since the epoch (Linux, to 10 ms)."""
    ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    boot = next(line for line in Path("/proc/stat").read_text().splitlines() if line.startswith("btime"))
    return int(boot.split()[1]) + ticks / os.sysconf("SC_CLK_TCK")


def run_trial(config: DictConfig, report: Callable[..., None], folder: Path) -> dict[str, float]:
    """``train.run_trial``; what was spent so far is written beside the study."""
    import train

    metrics = train.run_trial(config, timed("waiting", report), folder)
    whole = time.time() - started()
    phases = {**spent, "waiting": whole - sum(seconds for phase, seconds in spent.items() if phase != "waiting")}
    Path(config.output_dir, "profile.json").write_text(json.dumps({"seconds": whole, "phases": phases}))
    return metrics


def profile(surrogate: str, trials: int, epochs: int) -> dict[str, Any]:
    """Seconds of a slot, and the share of each phase."""
    import tune
    from benchmarks.tuner import run, study_config

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = ["dataset=hdf5", f"dataset.path={linear_dataset(folder / 'data.h5')}", f"surrogate={surrogate}"]
        budget = [f"trials={trials}", f"trainer.epochs={epochs}", "pruner=none", "devices=[cpu]", "time_pruning=false"]
        config = study_config(folder, *data, *budget)
        run(config, folder, "benchmarks.profile:run_trial", prepare=tune.prepare, warm_up="benchmarks.profile:warm_up")
        found: dict[str, Any] = json.loads((Path(config.output_dir) / "profile.json").read_text())
    shares = {phase: found["phases"].get(phase, 0.0) / found["seconds"] for phase in PHASES}
    return {"surrogate": surrogate, "seconds": found["seconds"], "shares": shares}


def main() -> None:
    """Profile each surrogate, print a table, write one JSON file."""
    from benchmarks.steps import TRIALS

    parser = argparse.ArgumentParser(prog="python -m benchmarks.profile", description=__doc__.splitlines()[0])
    parser.add_argument("--surrogates", nargs="*", default=list(TRIALS), choices=list(TRIALS))
    parser.add_argument("--trials", type=int, default=10)
    parser.add_argument("--epochs", type=int, default=20)
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    rows = [profile(name, arguments.trials, arguments.epochs) for name in arguments.surrogates]
    print(f"{'share of the slot / %':<22}" + "".join(f"{row['surrogate']:>18}" for row in rows))
    for phase in PHASES:
        print(f"{phase:<22}" + "".join(f"{100 * row['shares'][phase]:>18.1f}" for row in rows))
    print(f"{'seconds':<22}" + "".join(f"{row['seconds']:>18.1f}" for row in rows))
    keep("profile", arguments=vars(arguments), studies=rows)


if __name__ == "__main__":
    main()
