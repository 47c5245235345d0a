"""What the coordinator costs: ``python -m benchmarks.tuner``.

1. Overhead per trial: a study whose trainings take no time, one slot, SQLite, ten parameters, ten evaluations per
   trial. Time from one trial's start to the next one's is then ask, tell, messages and database. Measured after 0, 200
   and 1,000 finished trials, for the samplers and pruners of ``objective=accuracy`` and ``objective=dual``, for TPE
   without pruner, and for NSGA-II. Target: a median under 50 ms after 200 trials.
2. Real trainings of about two seconds, with one slot and with two: the share of the slots' time, from the first trial's
   start to the last one's end, in which their workers ran a trial (target 95 %) and in which a training step ran; and
   the trials per hour of two slots against one (target 1.8 times on two idle cores).
"""

import argparse
import statistics
import tempfile
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from io import StringIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import optuna
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

import tune
from benchmarks.record import keep
from benchmarks.workload import CONF
from codes import resolvers, schema
from codes.storage.sqlite import open_file
from codes.tuning.ledger import OUTCOME, record_of
from codes.tuning.plan import Plan, plan_study
from codes.tuning.study import run_study

EVALUATIONS = 10
TEN = [
    *("learning_rate", "regularization_factor", "beta", "eta_min", "poly_power", "momentum"),
    *("hidden_size", "output_factor", "branch_hidden_layers", "trunk_hidden_layers"),
]
WAYS = {
    "TPE, Hyperband": ["objective=accuracy"],
    "TPE": ["objective=accuracy", "pruner=none"],
    "TPE, halving": ["objective=dual"],
    "NSGA-II": ["objective=dual", "sampler=nsgaii", "pruner=none"],
}


def instant(config: DictConfig, report: Callable[[int, dict[str, float]], None], folder: Path) -> dict[str, float]:
    """A training that takes no time, better or worse by its hyperparameters."""
    error = 1.0 + abs(float(config.surrogate.learning_rate) - 1e-3)
    for epoch in range(1, EVALUATIONS + 1):
        report(epoch * config.trainer.epochs // EVALUATIONS, {"lae99": error + 1 / epoch})
    return {"lae99": error, "inference_time": 1e-6 * config.surrogate.hidden_size}


def study_config(folder: Path, *overrides: str) -> DictConfig:
    """A composed study that leaves everything in ``folder``."""
    schema.register()
    resolvers.register()
    fixed = [f"storage.path={folder}/study.db", f"output_dir={folder}/out", "optimal=off"]
    with initialize_config_dir(str(CONF)):
        return compose("tune", [*fixed, *overrides])


def overhead(way: Sequence[str], finished: int, trials: int) -> float:
    """Median milliseconds from a trial's start to the next one's, after ``finished`` trials."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = study_config(folder, "devices=[cpu]", "trials=2", *way)
        config.search_space = {name: {**config.search_space[name], "when": None} for name in TEN}
        run(config, folder, "benchmarks.tuner:instant")  # begins the study as users do
        prefill(plan_study(config), study_in(config, folder), finished - 2)
        config.trials = finished + trials
        started = [start_of(trial) for trial in run(config, folder, "benchmarks.tuner:instant")[finished:]]
    return 1e3 * statistics.median(after - before for before, after in pairwise(started))


def start_of(trial: FrozenTrial) -> float:
    """Seconds since the epoch."""
    assert trial.datetime_start is not None
    return trial.datetime_start.timestamp()


def prefill(plan: Plan, study: optuna.Study, number: int) -> None:
    """Add finished trials with hyperparameters drawn at random."""
    distributions = drawn_from(plan)
    sampler = optuna.create_study(sampler=optuna.samplers.RandomSampler(0))
    for _ in range(number):
        params = sampler.ask(distributions).params
        values = [1.0 + abs(params["learning_rate"] - 1e-3), 1e-6 * params["hidden_size"]][: len(study.directions)]
        study.add_trial(
            create_trial(
                params=params,
                distributions=distributions,
                values=values,
                state=TrialState.COMPLETE,
                user_attrs={OUTCOME: "complete"},
            )
        )


def drawn_from(plan: Plan) -> dict[str, BaseDistribution]:
    """Optuna's distribution of each parameter."""
    trial = optuna.create_study(sampler=optuna.samplers.RandomSampler(0)).ask()
    plan.space.sample(trial, plan.config)
    return trial.distributions


def run(config: DictConfig, folder: Path, runner: str, **settings: Any) -> list[FrozenTrial]:
    """Run the study to its end, without its screen; its trials."""
    with redirect_stdout(StringIO()):
        run_study(config, runner, **settings)
    return study_in(config, folder).trials


def study_in(config: DictConfig, folder: Path) -> optuna.Study:
    """The study that a run left in ``folder``."""
    return optuna.load_study(study_name=config.study_name, storage=open_file(folder / "study.db"))


def slots(number: int, trials: int, *overrides: str) -> dict[str, float]:
    """A study of equal real trainings with ``number`` slots."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        devices = f"devices=[{','.join(['cpu'] * number)}]"
        config = study_config(folder, devices, f"trials={trials}", "pruner=none", *overrides)
        config.search_space = {"learning_rate": {"low": 5e-4, "high": 2e-3}}
        ended = run(config, folder, "train:run_trial", prepare=tune.prepare, warm_up="train:warm_up")
    start = min(trial.datetime_start for trial in ended if trial.datetime_start)
    wall = (max(trial.datetime_complete for trial in ended if trial.datetime_complete) - start).total_seconds()
    records = [record_of(trial) for trial in ended]
    return {
        "seconds_per_trial": statistics.median(record["duration"] for record in records),
        "in_a_trial": sum(record["duration"] for record in records) / (number * wall),
        "in_training_steps": sum(record["metrics"]["train_time"] for record in records) / (number * wall),
        "trials_per_hour": 3600 * len(ended) / wall,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=20, help="trials measured for each overhead")
    parser.add_argument("--trainings", type=int, default=60, help="real ones of each study; at its end slots run empty")
    parser.add_argument("--epochs", type=int, default=25, help="of a real training; 25 take about two seconds")
    parser.add_argument("--finished", type=int, nargs="+", default=[0, 200, 1000])
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)

    results: dict[str, Any] = {}
    print(f"overhead per trial (ms, median), {len(TEN)} parameters, {EVALUATIONS} evaluations")
    print(f"{'finished trials':<16}" + "".join(f"{number:>8}" for number in arguments.finished))
    for way, overrides in WAYS.items():
        results[way] = {number: overhead(overrides, number, arguments.trials) for number in arguments.finished}
        print(f"{way:<16}" + "".join(f"{milliseconds:8.1f}" for milliseconds in results[way].values()), flush=True)

    one, two = (slots(number, arguments.trainings, f"trainer.epochs={arguments.epochs}") for number in (1, 2))
    results |= {"one slot": one, "two slots": two, "speed-up": two["trials_per_hour"] / one["trials_per_hour"]}
    for name, share in (("one slot", one), ("two slots", two)):
        print(
            f"{name}: {share['seconds_per_trial']:.2f} s per trial, slots' time in a trial {share['in_a_trial']:.1%}, "
            f"in training steps {share['in_training_steps']:.1%}, {share['trials_per_hour']:.0f} trials per hour"
        )
    print(f"two slots against one: {results['speed-up']:.2f} times the trials per hour")
    keep("tuner", **results)


if __name__ == "__main__":
    main()
