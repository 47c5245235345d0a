"""One study: the project's way from asking to telling, with trainings out of the table."""

import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, partial
from statistics import mean
from time import process_time
from typing import Any

import optuna
from omegaconf import OmegaConf
from optuna.exceptions import ExperimentalWarning

from benchmarks.search.problems import EPOCHS, LOOK, TRIALS, Cell, Problem
from benchmarks.search.table import Key, Table, Training
from codes.tuning.ledger import CLAIM, Ledger
from codes.tuning.outcomes import Outcome, Verdict
from codes.tuning.plan import Plan, plan_study
from codes.tuning.presence import Presence
from codes.tuning.time_pruning import TimePruning
from codes.tuning.watch import Watch

SECONDS = 10.0  # that a whole training takes on average, on the clock of a study
BUDGET = TRIALS * SECONDS
CALIBRATED = 50  # trainings, drawn at random before any study, that say how long one takes here
GP_TRIALS = TRIALS // 3  # a Gaussian process asks for longer than the rest of the benchmark takes
HARDWARE = "cpu"

ARMS = {
    "lae99": {
        "NSGA-II, population 50": ["sampler=nsgaii", "sampler.population_size=50", "pruner=none"],
        "NSGA-II": ["sampler=nsgaii", "pruner=none"],
        "TPE + Hyperband": ["sampler=tpe", "pruner=hyperband"],
        "TPE": ["sampler=tpe", "pruner=none"],
        "GP": ["sampler=gp", "pruner=none"],
        "random": ["sampler=random", "pruner=none"],
    },
    "dual": {
        "NSGA-II, population 50": ["sampler=nsgaii", "sampler.population_size=50", "pruner=none"],
        "NSGA-II": ["sampler=nsgaii", "pruner=none"],
        "NSGA-II + halving": ["sampler=nsgaii", "pruner=pareto_halving"],
        "TPE + halving": ["sampler=tpe", "pruner=pareto_halving"],
        "TPE, multivariate + halving": ["sampler=tpe_multivariate", "pruner=pareto_halving"],
        "TPE": ["sampler=tpe", "pruner=none"],
        "GP": ["sampler=gp", "pruner=none"],
        "random": ["sampler=random", "pruner=none"],
    },
}
LETTERS = {Outcome.COMPLETE: "c", Outcome.PRUNED: "p", Outcome.TIME_PRUNED: "t", Outcome.DIVERGED: "d"}


@dataclass(frozen=True)
class Setting:
    """What is compared: a sampler and a pruner, on one problem, with one objective (``lae99``) or two (``dual``)."""

    problem: Problem
    goal: str
    arm: str

    @property
    def name(self) -> str:
        """As it is written in results."""
        return f"{self.problem.name}/{self.goal}/{self.arm}"


@dataclass(frozen=True)
class Step:
    """One trial: the seconds that asking took, its training, how it ended, and after how many evaluations."""

    asked: float
    key: Key
    outcome: Outcome
    looks: int


@cache
def plan_of(setting: Setting) -> Plan:
    """The project's plan; only its seed differs between studies of one setting."""
    objective = "accuracy" if setting.goal == "lae99" else "dual"
    overrides = [f"objective={objective}", *ARMS[setting.goal][setting.arm]]
    return plan_study(setting.problem.compose(*overrides))


def calibrate(problem: Problem, table: Table) -> None:
    """Have the first trainings of ``problem`` be those of random trials."""
    plan = plan_of(Setting(problem, "dual", "random"))
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    while len(table.of(problem.name)) < CALIBRATED:
        trial = study.ask()
        plan.space.sample(trial, plan.config)
        table.get(problem, (problem.cell_of(trial.params), 0))


def stretch(problem: Problem, table: Table) -> float:
    """Seconds on the clock for each CPU second of training."""
    return SECONDS / mean(training.seconds for training in list(table.of(problem.name).values())[:CALIBRATED])


def charged(training: Training, looks: int) -> float:
    """CPU seconds of a training that ends after so many evaluations."""
    return training.seconds * (1.0 if looks >= len(training.curve) else looks * LOOK / EPOCHS)


def run_study(setting: Setting, seed: int, table: Table) -> Iterator[Step]:
    """Trials of one study until its clock has run down."""
    plan, factor = plan_of(setting), stretch(setting.problem, table)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        plan.config.seed = seed
        sampler = plan.sampler(0)
    study = optuna.create_study(
        study_name=f"{setting.name}/{seed}",
        directions=plan.objective.directions,
        sampler=sampler,
        pruner=plan.pruner,
    )
    ledger = Ledger(study, TRIALS, Presence(study), plan_of)  # type: ignore[arg-type]
    pruning, clock, number = TimePruning(ledger), 0.0, 0
    active: dict[tuple[Any, ...], bool] = {}
    visits: Counter[Cell] = Counter()
    most = GP_TRIALS if setting.arm == "GP" else None
    while clock < BUDGET and number != most:
        start = process_time()
        trial = study.ask()
        sample(trial, plan, active)
        asked = process_time() - start
        cell = setting.problem.cell_of(trial.params)
        training = table.get(setting.problem, (cell, visits[cell]))
        outcome, looks = _train(trial, training, plan, ledger, pruning)
        clock += charged(training, looks) * factor + asked
        number += 1
        yield Step(asked, (cell, visits[cell]), outcome, looks)
        visits[cell] += 1


def sample(trial: optuna.Trial, plan: Plan, active: dict[tuple[Any, ...], bool]) -> None:
    """Suggest what ``plan.space.sample`` does; it copies the config and resolves conditions for longer than TPE thinks.

    ``active`` keeps what the conditions say, by the categorical values that they may look at.
    """
    chosen: dict[str, Any] = {}
    for parameter in plan.space:
        key = (parameter.name, *chosen.items())
        if key not in active:
            config = plan.config.copy()
            for name, value in chosen.items():
                OmegaConf.update(config, f"surrogate.{name}", value)
            active[key] = parameter.is_active(config)
        if active[key]:
            value = parameter.suggest(trial)
            if parameter.kind == "categorical":
                chosen[parameter.name] = value


def _train(
    trial: optuna.Trial, training: Training, plan: Plan, ledger: Ledger, pruning: TimePruning
) -> tuple[Outcome, int]:
    """Let ``training`` pass before the study's watch, and settle ``trial`` as the coordinator does."""
    trial.set_user_attr(CLAIM, {"hardware": HARDWARE})
    watch = Watch(trial, plan.objective, partial(pruning.limit, HARDWARE))
    looks, reason = 0, None
    while reason is None and looks < len(training.curve):
        looks += 1
        reason = watch(looks * LOOK, _metrics(training, looks))
    verdict = watch.complete(plan.objective.check(_verdict(training, looks, reason)))
    ledger.settle(trial, verdict, plan.objective.told(verdict, plan.config.loss_cap))
    if pruning.limit(HARDWARE) is None or verdict.outcome is Outcome.TIME_PRUNED:
        pruning.renew(HARDWARE)
    return verdict.outcome, looks


def _metrics(training: Training, looks: int) -> dict[str, float]:
    assert training.early is not None  # measured at the first evaluation
    seconds = training.seconds * looks * LOOK / EPOCHS
    return {"lae99": training.curve[looks - 1], "inference_time": training.early, "train_time": seconds}


def _verdict(training: Training, looks: int, reason: str | None) -> Verdict:
    if reason is not None:
        return Verdict(Outcome.PRUNED, reason)
    if training.best is None or training.latency is None:
        return Verdict(Outcome.DIVERGED, "diverged")
    metrics = {**_metrics(training, looks), "lae99": training.best, "inference_time": training.latency}
    return Verdict(Outcome.COMPLETE, metrics=metrics)


def as_row(setting: Setting, seed: int, steps: list[Step], table: Table) -> dict[str, Any]:
    """A line of results: of each trial the number of its training, how it ended, and its evaluations."""
    numbers = {key: number for number, key in enumerate(table.of(setting.problem.name))}
    return {
        **{"problem": setting.problem.name, "goal": setting.goal, "arm": setting.arm, "seed": seed},
        "trials": " ".join(f"{numbers[step.key]}{LETTERS[step.outcome]}{step.looks}" for step in steps),
        "asked": [round(1e3 * step.asked) for step in steps],  # ms
    }
