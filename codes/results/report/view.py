"""Copies of a study for Optuna's pictures, in which only what is a result has values.

``optuna.visualization`` goes by the state of a trial. In a study of several objectives a trial that ran out of time has
the state COMPLETE, with values that nothing has reached.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Literal

import optuna
from optuna.trial import FrozenTrial, TrialState, create_trial


def view(
    trials: Iterable[FrozenTrial],
    directions: Sequence[Literal["minimize", "maximize"]],
    values: Callable[[FrozenTrial], Sequence[float] | None],
) -> optuna.Study:
    """A study in memory of ``trials``, numbered in their order, with the ``values`` that are given for each.

    A trial with None keeps its number and is a failed one without parameters, which no picture shows.
    """
    study = optuna.study.Study("", _storage(directions))
    study.add_trials([_copy(trial, values(trial)) for trial in trials])
    return study


def _storage(directions: Sequence[Literal["minimize", "maximize"]]) -> optuna.storages.BaseStorage:
    storage = optuna.storages.InMemoryStorage()
    storage.create_new_study([optuna.study.StudyDirection[name.upper()] for name in directions], "")
    return storage


def _copy(trial: FrozenTrial, values: Sequence[float] | None) -> FrozenTrial:
    if values is None:
        return create_trial(state=TrialState.FAIL)
    return create_trial(values=list(values), params=trial.params, distributions=trial.distributions)


def curves_view(trials: Iterable[FrozenTrial]) -> optuna.Study:
    """A study in memory of the intermediate values of ``trials``, whatever came of them, numbered in their order."""
    study = optuna.study.Study("", _storage(["minimize"]))
    study.add_trials(
        [create_trial(state=TrialState.PRUNED, intermediate_values=trial.intermediate_values) for trial in trials]
    )
    return study
