"""Trials that are taken over into another search space."""

import copy
import functools

import optuna
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from optuna.trial import TrialState

from codes.bounds import key_of
from codes.tuning.entries import read_space
from codes.tuning.ledger import outcome_of, record_of
from codes.tuning.migration import migrate
from codes.tuning.outcomes import Outcome
from codes.tuning.plan import plan_study
from tests.tuning.settling import SPACE, begin, resumed_as, settle, way_back
from tests.tuning.studies import composed, study_in


def test_a_wider_range_takes_every_trial_over(tmp_path, capsys):
    begin(tmp_path)
    before = study_in(tmp_path).trials
    low = f"{SPACE}.low=1e-7"
    new = ["search_space.optimizer.choices=[adamw,sgd]", low, "+search_space.trainer.batch_size.choices=[256,1024]"]
    plan = settle(composed(tmp_path, *new, "on_config_change=reuse", whole_space=True))
    assert "4 trials are taken over, 0 are left out" in capsys.readouterr().out
    after = study_in(tmp_path)
    for old, moved in zip(before, after.trials, strict=True):
        assert moved.params == {**old.params, "trainer.batch_size": 1024}
        assert facts_of(moved) == facts_of(old)
    study = optuna.load_study(study_name=after.study_name, storage=after._storage, sampler=plan.sampler(9))
    trial = study.ask()
    plan.space.sample(trial, plan.config)  # Optuna refuses choices that another trial of the study does not have
    assert trial.distributions == {p.name: p.distribution for p in plan.space if p.name in trial.params}


def test_what_a_trial_does_not_read_leaves_it_in(tmp_path, capsys):
    begin(tmp_path, trials=8)
    schedulers = [trial.params["scheduler"] for trial in study_in(tmp_path).trials]
    assert len(set(schedulers)) > 1
    new = ["surrogate.poly_power=1.7", f"{SPACE}.low=1e-7"]  # as after a promotion
    settle(composed(tmp_path, *new, "on_config_change=reuse", whole_space=True))
    assert "8 trials are taken over, 0 are left out" in capsys.readouterr().out


def facts_of(trial):
    return trial.number, trial.state, trial.values, trial.intermediate_values, trial.user_attrs, trial.datetime_start


def test_trials_outside_are_left_out_by_name_and_stay_in_the_backup(tmp_path, capsys):
    begin(tmp_path, trials=8)
    before = study_in(tmp_path).trials
    optimizers = [trial.params["optimizer"] for trial in before]
    assert {"adamw", "sgd"} == set(optimizers)
    new = ["~search_space.optimizer", "surrogate.optimizer=sgd", "on_config_change=reuse"]
    settle(composed(tmp_path, *new, whole_space=True), new)
    printed = capsys.readouterr().out
    first = optimizers.index("adamw")
    assert f"{optimizers.count('adamw')} by surrogate.optimizer: trial {first}: adamw was trained with" in printed
    for old, new_trial in zip(before, study_in(tmp_path).trials, strict=True):
        assert new_trial.number == old.number
        if old.params["optimizer"] == "sgd":
            assert facts_of(new_trial) == facts_of(old) and "momentum" in new_trial.params
        else:
            assert outcome_of(new_trial) is Outcome.LEFT_OUT and "adamw" in record_of(new_trial)["reason"]
    back = resumed_as(way_back(printed), tmp_path)
    assert settle(back).name.startswith("robertson.bak-")
    database = study_in(tmp_path)._storage
    assert len(optuna.load_study(study_name=plan_study(back).name, storage=database).trials) == 8


def test_what_waits_goes_on_to_wait_if_it_fits(tmp_path):
    begin(tmp_path, trials=1, whole_space=False)
    for rate in (1e-3, 9e-3):
        study_in(tmp_path).enqueue_trial({"learning_rate": rate})
    settle(composed(tmp_path, f"{SPACE}.high=5e-3", f"{SPACE}.low=1e-9", "on_config_change=reuse"))
    trials = study_in(tmp_path).trials
    assert [trial.state for trial in trials[1:]] == [TrialState.WAITING, TrialState.FAIL]
    assert study_in(tmp_path).ask().suggest_float("learning_rate", 1e-9, 5e-3, log=True) == 1e-3


def test_a_genetic_algorithm_goes_on_after_a_migration(tmp_path):
    dual = ["objective=dual", "sampler=nsgaii", "trials=20"]
    begin(tmp_path, *dual, trials=10)
    wide = [*dual, f"{SPACE}.high=0.1", "on_config_change=reuse"]
    plan = settle(composed(tmp_path, *wide, whole_space=True))
    study = study_in(tmp_path)
    key = "NSGAIISampler:generation"
    assert {trial.system_attrs.get(key) for trial in study.trials if trial.state is TrialState.COMPLETE} == {0}
    study.sampler = plan.sampler(1)
    trial = study.ask()
    plan.space.sample(trial, plan.config)
    assert study.trials[-1].system_attrs[key] == 1  # children of the best that were taken over


@given(
    low=st.floats(1e-6, 1e-3),
    high=st.floats(2e-3, 1.0),
    is_log=st.booleans(),
    choices=st.lists(st.sampled_from(["adamw", "sgd"]), min_size=1, max_size=2, unique=True),
    layers=st.tuples(st.integers(1, 3), st.integers(4, 9)),
    removed=st.sets(st.sampled_from(["momentum", "loss", "scheduler", "beta"])),
)
@settings(max_examples=10)
def test_a_migrated_trial_has_the_config_that_it_was_trained_with(low, high, is_log, choices, layers, removed):
    """... and fits the new search space, whatever became of that; every trial is taken over or left out."""
    stored, trials = sampled()
    config = copy.deepcopy(stored)
    OmegaConf.set_struct(config, False)
    config.search_space.learning_rate = {"type": "float", "low": low, "high": high, "log": is_log}
    config.search_space.optimizer.choices = choices
    config.search_space.branch_hidden_layers = {"low": layers[0], "high": layers[1], "step": 1}
    for name in removed:
        del config.search_space[name]
    space = read_space(config)
    migration = migrate(trials, stored, config, space)
    left_out = {number for number, _, _ in migration.left_out}
    assert [trial.number for trial in migration.trials] == list(range(len(trials)))
    for old, new in zip(trials, migration.trials, strict=True):
        if old.number in left_out:
            assert not new.params and outcome_of(new) is Outcome.LEFT_OUT
            continue
        assert all(new.distributions[name]._contains(new.distributions[name].to_internal_repr(value))
                   for name, value in new.params.items())  # fmt: skip
        study = optuna.create_study()
        study.enqueue_trial(new.params)
        trial = study.ask()
        assert space.sample(trial, config).surrogate == trained(old, stored).surrogate
        assert trial.params == new.params


@functools.cache
def sampled():
    """A config with the whole space, and twelve random trials of it."""
    config = composed("nowhere", whole_space=True)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    for _ in range(12):
        trial = study.ask()
        read_space(config).sample(trial, config)
        study.tell(trial, 1.0)
    return config, study.trials


def trained(trial, config):
    """Config of an earlier trial."""
    found = copy.deepcopy(config)
    for name, value in trial.params.items():
        OmegaConf.update(found, key_of(name), value)
    return found
