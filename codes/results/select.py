"""The trial to go on with. Only trials with the outcome ``complete`` can be chosen."""

import random
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial

from codes.errors import UserError
from codes.metrics import METRICS, accuracy_of
from codes.tuning.changes import kept_config
from codes.tuning.front import best_trials, knee, metric_of, pareto_front
from codes.tuning.ledger import outcome_of
from codes.tuning.objective import Objective, read_objective
from codes.tuning.outcomes import Outcome

PICKS = "best, knee, fastest_within=<error>, most_accurate_within=<seconds>, or the number of a trial"
AUTO = "auto"  # what a study asks for: its best trial, or with several objectives its knee


def select(study: optuna.Study, pick: str | int = AUTO) -> FrozenTrial:
    """The complete trial of a study of ``tune.py`` that ``pick`` stands for, as :func:`choose` says.

    Raises ``UserError`` where there is no such trial, or the study is of somebody else.
    """
    config = kept_config(study, Path("."))
    if config is None:
        raise UserError(f"study {study.study_name} keeps no configuration, so that its objective is not known")
    return choose(study.get_trials(deepcopy=False), read_objective(config), pick)


def choose(trials: Sequence[FrozenTrial], objective: Objective, pick: str | int = AUTO) -> FrozenTrial:
    """The complete trial that ``pick`` stands for.

    ================================  =========================================================================
    ``best``                          of a single objective
    ``knee``                          of the Pareto front of several, as ``codes.tuning.front.knee`` defines it
    ``fastest_within=<error>``        the shortest inference time among those with at most this error: the first
                                      accuracy of the objective, else lae99 (dex, or data units)
    ``most_accurate_within=<s>``      the least error among those with at most this inference time in seconds
    a number                          that trial
    ================================  =========================================================================

    Of equals the first is taken. Raises ``UserError`` where there is no such trial.
    """
    complete = [trial for trial in trials if outcome_of(trial) is Outcome.COMPLETE]
    name, equals, limit = str(pick).strip().partition("=")
    if name.isdigit() and not equals:
        return _numbered(trials, int(name))
    if name not in PICKERS or bool(equals) != (name in LIMITED):
        raise UserError(f"pick must be {PICKS}, but is {pick!r}")
    if not complete:
        raise UserError(f"pick={pick}: no trial of the study is complete yet")
    return PICKERS[name](complete, objective, _number(pick, limit) if equals else 0.0)


def knee_stability(
    trials: Iterable[FrozenTrial], objective: Objective, resamples: int = 200, seed: int = 0
) -> dict[int, float]:
    """How often each trial is the knee when the complete trials are drawn anew, with replacement (bootstrap).

    The number of a trial and the share of the resamples *that have this trial* in which it is the knee, most often
    first; trials that never are one are left out. 1 means that no other trial takes its place, whichever are missing.
    The standard error of a share is below 0.05. Source: B. Efron, Bootstrap methods: another look at the jackknife,
    Annals of Statistics 7, 1-26 (1979); as a measure of stability.
    """
    complete = [trial for trial in trials if outcome_of(trial) is Outcome.COMPLETE]
    draw = random.Random(seed)
    had = dict.fromkeys((trial.number for trial in complete), 0)
    chosen: dict[int, int] = {}
    for _ in range(resamples if complete else 0):
        sample = {trial.number: trial for trial in draw.choices(complete, k=len(complete))}
        for number in sample:
            had[number] += 1
        number = knee(pareto_front([sample[key] for key in sorted(sample)], objective), objective).number
        chosen[number] = chosen.get(number, 0) + 1
    return {number: count / had[number] for number, count in sorted(chosen.items(), key=lambda item: -item[1])}


def _numbered(trials: Sequence[FrozenTrial], number: int) -> FrozenTrial:
    trial = next((trial for trial in trials if trial.number == number), None)
    if trial is None:
        raise UserError(f"pick: there is no trial {number}")
    outcome = outcome_of(trial)
    if outcome is not Outcome.COMPLETE:
        ended = f"ended as {outcome.value}" if outcome else f"is {trial.state.name.lower()}"
        raise UserError(f"pick: trial {number} {ended}; only complete trials can be chosen")
    return trial


def _best(trials: Sequence[FrozenTrial], objective: Objective, _: float) -> FrozenTrial:
    if not objective.is_single:
        raise UserError(f"pick=best needs a single objective, but the study has {list(objective.metrics)}; try knee")
    return best_trials(trials, objective)[0]


def _knee(trials: Sequence[FrozenTrial], objective: Objective, _: float) -> FrozenTrial:
    if objective.is_single:
        raise UserError(f"pick=knee needs several objectives, but the study has {list(objective.metrics)}; try best")
    return knee(pareto_front(trials, objective), objective)


def _auto(trials: Sequence[FrozenTrial], objective: Objective, _: float) -> FrozenTrial:
    return (_best if objective.is_single else _knee)(trials, objective, _)


def _fastest(trials: Sequence[FrozenTrial], objective: Objective, limit: float) -> FrozenTrial:
    return _least("inference_time", accuracy_of(objective.metrics), limit, trials, objective)


def _most_accurate(trials: Sequence[FrozenTrial], objective: Objective, limit: float) -> FrozenTrial:
    return _least(accuracy_of(objective.metrics), "inference_time", limit, trials, objective)


def _least(sought: str, bounded: str, limit: float, trials: Sequence[FrozenTrial], objective: Objective) -> FrozenTrial:
    """The trial with the least ``sought`` of those whose ``bounded`` is at most ``limit``."""
    measured = [(metric_of(trial, sought, objective), metric_of(trial, bounded, objective), trial) for trial in trials]
    pairs = [(found, bound, trial) for found, bound, trial in measured if found is not None and bound is not None]
    if not pairs:
        raise UserError(f"pick: no trial has kept both its {sought} and its {bounded}")
    within = [(found, bound, trial.number, trial) for found, bound, trial in pairs if bound <= limit]
    if not within:
        least = min(bound for _, bound, _ in pairs)
        unit = METRICS[bounded].unit
        raise UserError(f"pick: no trial has {bounded} within {limit:g}; the least is {least:.4g} ({unit})")
    return min(within, key=lambda entry: entry[:3])[-1]


def _number(pick: str | int, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise UserError(f"pick={pick}: the limit must be a positive number, but is {text!r}")
    return value


Picker = Callable[[Sequence[FrozenTrial], Objective, float], FrozenTrial]
LIMITED: dict[str, Picker] = {"fastest_within": _fastest, "most_accurate_within": _most_accurate}
PICKERS: dict[str, Picker] = {AUTO: _auto, "best": _best, "knee": _knee, **LIMITED}
