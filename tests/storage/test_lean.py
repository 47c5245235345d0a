"""Reading and writing trials as Optuna does, by fewer statements."""

import math
import uuid
from dataclasses import replace

import optuna
import pytest
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.trial import TrialState, create_trial

from codes.storage import lean, opened
from tests.storage.conftest import storage_config

LAST = 10_000  # beyond every number of a trial


@pytest.fixture(params=["sqlite", "postgres"])
def study(request, tmp_path):
    """A study in a database of its own, with trials of every kind."""
    if request.param == "postgres":
        config = replace(request.getfixturevalue("local"), database=uuid.uuid4().hex)
    else:
        config = storage_config("storage=sqlite", f"storage.path={tmp_path}/study.db")
    with opened(config) as database:
        study = optuna.create_study(storage=database.storage, directions=["minimize", "maximize"])
        choice = optuna.distributions.CategoricalDistribution([None, True, "β", 1.5])
        study.add_trial(create_trial(params={"c": "β"}, distributions={"c": choice}, values=[math.inf, -math.inf]))
        study.enqueue_trial({"x": 0.5}, user_attrs={"from": ["queue", None]})
        for state in (TrialState.RUNNING, TrialState.PRUNED, TrialState.COMPLETE, TrialState.FAIL):
            trial = study.ask()
            trial.suggest_float("x", 1e-3, 1, log=True), trial.suggest_int("n", 0, 6, step=2)
            trial.suggest_categorical("c", choice.choices)
            for step, value in enumerate([1.5, math.nan, math.inf, -math.inf]):
                study._storage.set_trial_intermediate_value(trial._trial_id, 3 * step, value)
            trial.set_user_attr("näme", {"a": 1})
            if state.is_finished():
                study.tell(trial, [1.0, 2.0] if state is TrialState.COMPLETE else None, state)
        study.enqueue_trial({"x": 0.75})
        optuna.create_study(storage=database.storage).ask()  # of another study
        yield study


def test_a_study_is_found_by_its_name_as_by_optuna(study):
    backend = study._storage._backend
    assert backend.get_study_id_from_name(study.study_name) == study._study_id
    with pytest.raises(KeyError):
        backend.get_study_id_from_name("another")


@pytest.mark.parametrize("at_once", [2, 500])
def test_trials_read_as_by_optuna(study, at_once, monkeypatch):
    monkeypatch.setattr(lean, "AT_ONCE", at_once)
    backend = study._storage._backend
    every = RDBStorage._get_trials(backend, study._study_id, None, set(), -1)
    assert len(every) == 6 and len({trial.state for trial in every}) == 5
    third = every[2]._trial_id
    for seen in [
        (None, set(), -1),
        (None, {third, LAST}, third),
        (None, {third}, LAST),
        ([TrialState.FAIL], set(), -1),
    ]:
        assert repr(backend._get_trials(study._study_id, *seen)) == repr(
            RDBStorage._get_trials(backend, study._study_id, *seen)
        )
    for trial in every:
        assert repr(backend.get_trial(trial._trial_id)) == repr(trial)
        assert backend.get_trial(trial._trial_id).distributions == trial.distributions


def test_what_cannot_be_written_or_read(study):
    storage = study._storage
    ended, unknown = study.get_trials(states=[TrialState.PRUNED])[0]._trial_id, LAST
    distribution = optuna.distributions.FloatDistribution(1e-3, 1, log=True)
    for number, error in ((ended, UpdateFinishedTrialError), (unknown, KeyError)):
        for write in (
            lambda number=number: storage.set_trial_intermediate_value(number, 99, 1.0),
            lambda number=number: storage.set_trial_user_attr(number, "late", 1),
            lambda number=number: storage.set_trial_system_attr(number, "late", 1),
            lambda number=number: storage._backend._set_trial_param(number, "x", 0.5, distribution, distribution),
        ):
            with pytest.raises(error):
                write()
    with pytest.raises(KeyError):
        storage.get_trial(unknown)
    with pytest.raises(KeyError):
        storage._backend._get_trials(LAST, None, set(), -1)
    with pytest.raises(ValueError, match="CategoricalDistribution does not support dynamic value space"):
        study.ask().suggest_categorical("c", [1, 2])
