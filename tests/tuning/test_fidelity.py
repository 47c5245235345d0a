"""A study keeps its configuration: how differences are told, classed and settled, on real SQLite files."""

import copy
import functools
import itertools
import os
import pty
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import optuna
import pytest
import sqlalchemy
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from optuna.trial import TrialState

from codes import storage
from codes.bounds import key_of
from codes.errors import UserError
from codes.tuning.changes import Class, changes, kept_config, with_stored
from codes.tuning.entries import read_space
from codes.tuning.fidelity import ConfigChanged, settle_config
from codes.tuning.ledger import Ledger, outcome_of, record_of
from codes.tuning.migration import distribution, migrate
from codes.tuning.outcomes import VALID, Outcome, Verdict
from codes.tuning.plan import plan_study
from codes.tuning.presence import Presence
from codes.tuning.study import run_study
from tests.tuning.studies import ROOT, RUNNERS, composed, launch, study_in

SPACE = "search_space.learning_rate"


def settle(config, overrides=(), replan=plan_study):
    """The plan that a launch with ``config`` goes on with; the launch ends at once."""
    with storage.opened(OmegaConf.to_object(config.storage)) as database:
        plan, presence = settle_config(plan_study(config), database, overrides, replan)
        presence.leave()
        return plan


def begin(folder, *overrides, trials=4, whole_space=True):
    """A study with ``trials`` finished trials: complete, pruned and failed ones, with a model of each complete one."""
    config = composed(folder, *overrides, whole_space=whole_space)
    with storage.opened(OmegaConf.to_object(config.storage)) as database:
        plan, presence = settle_config(plan_study(config), database, (), plan_study)
        ledger = Ledger(presence.study, trials + 9, presence, lambda: database.claiming(plan.name))
        presence.study.sampler = plan.sampler(0)
        for number in range(trials):
            trial = ledger.claim("cpu", "cpu", 42)
            plan.space.sample(trial, plan.config)
            outcome = (Outcome.COMPLETE, Outcome.COMPLETE, Outcome.PRUNED, Outcome.FAILED)[number % 4]
            values = [float(number), 1.0][: len(plan.objective.metrics)] if outcome is Outcome.COMPLETE else []
            if plan.objective.is_single:
                trial.report(number + 0.5, 10)
            ledger.settle(trial, Verdict(outcome, f"reason {number}"), values)
            if values:
                model = plan.folder / "models" / str(number)
                model.mkdir(parents=True)
                (model / "model").write_text(f"model {number}")
        presence.leave()
    return plan


def facts(study):
    """What makes up a trial, in an order."""
    return [
        (t.number, t.state, t.values, t.params, t.intermediate_values, t.user_attrs, t.datetime_complete)
        for t in study.get_trials()
    ]


def everything_in(folder):
    """Contents of all files but the database's, and all trials."""
    files = {str(path): path.read_bytes() for path in Path(folder, "out").rglob("*") if path.is_file()}
    return files, facts(study_in(folder)), study_in(folder).user_attrs.get("config")


CLASSES = {
    Class.HARMLESS: ["trials=99", "devices=[cpu,cpu]", "dataset.data_dir=/elsewhere", "time_pruning=false",
                     "surrogate.hidden_size=77"],  # every trial samples its hidden size
    Class.COMPATIBLE: ["search_space.learning_rate.high=1.0", "search_space.learning_rate.log=false",
                       "search_space.activation.choices=[ReLU]", "search_space.momentum.when=true",
                       "~search_space.optimizer", "surrogate.optimizer=sgd",
                       "+search_space.trainer.batch_size.choices=[256,1024]", "sampler.n_startup_trials=3"],
    Class.BREAKING: ["surrogate.momentum=0.8",  # trials with adamw have it
                     "trainer.epochs=50", "trainer.threads=2", "dataset.tolerance=1e-9", "objective.metrics=[mlae]",
                     "loss_cap=7.0", "seed=1", "+pruner.interval_steps=2", "sampler.n_startup_trials=3"],
}  # fmt: skip


@pytest.mark.parametrize("kind", CLASSES)
def test_every_difference_has_its_class(kind, tmp_path):
    stored = composed(tmp_path, whole_space=True)
    found = changes(stored, composed(tmp_path, *CLASSES[kind], whole_space=True))
    keys = [override.lstrip("~+").partition("=")[0] for override in CLASSES[kind]]
    assert {change.kind for change in found} == {kind}
    assert all(any(change.key.startswith(key) for change in found) for key in keys)
    assert all(any(change.key.startswith(key) for key in keys) for change in found)


def test_what_means_the_same_is_the_same(tmp_path):
    stored = composed(tmp_path, whole_space=True)
    assert changes(stored, composed(tmp_path, whole_space=True)) == []
    assert changes(stored, composed(tmp_path, "sampler.seed=42", "search_space.learning_rate.high=1e-2",
                                    "seed=42", whole_space=True)) == []  # fmt: skip


def test_an_objective_takes_its_sampler_along(tmp_path):
    stored = composed(tmp_path, whole_space=True)
    new = composed(tmp_path, "objective=dual", "sampler=nsgaii", "trainer.epochs=7", "trials=7", whole_space=True)
    back = with_stored(new, changes(stored, new))
    assert {change.key for change in changes(stored, back)} == {"trials"} and back.trials == 7
    assert plan_study(back).sampler(0).__class__.__name__ == "TPESampler"


def test_stored_values_come_back_into_a_typed_config(tmp_path):
    stored = composed(tmp_path, "dataset=hdf5", "dataset.path=a.h5", "tuning_id=same")
    new = composed(tmp_path, "dataset=robertson", "tuning_id=same")
    for here, there in ((stored, new), (new, stored)):
        back = with_stored(there, changes(here, there))
        assert changes(here, back) == []
        assert OmegaConf.get_type(back.dataset) is OmegaConf.get_type(there.dataset)
        assert OmegaConf.get_type(back.surrogate).__name__ == "MultiONetConfig"


def test_the_config_is_kept_in_the_study_and_its_copy_comes_back(tmp_path, capsys):
    begin(tmp_path)
    path = tmp_path / "out/optuna_config.yaml"
    text = path.read_text()
    assert text == study_in(tmp_path).user_attrs["config"] and "storage:" not in text
    path.unlink()
    capsys.readouterr()
    settle(composed(tmp_path, "trials=9", "time_pruning=false", whole_space=True))
    assert path.read_text() == text.replace("trials: 5\n", "trials: 9\n")  # what it was started with, its target now
    assert capsys.readouterr().out.startswith("changed, without an effect on trials: ")


def test_a_study_of_an_earlier_version_has_the_file_only(tmp_path):
    begin(tmp_path)
    path = tmp_path / "out/optuna_config.yaml"
    study = study_in(tmp_path)
    trials = study.get_trials()
    optuna.delete_study(study_name=study.study_name, storage=study._storage)
    old = optuna.create_study(study_name=study.study_name, storage=study._storage, direction="minimize")
    old.add_trials(trials)
    settle(composed(tmp_path, whole_space=True))
    assert study_in(tmp_path).user_attrs["config"] == path.read_text()
    optuna.delete_study(study_name=study.study_name, storage=study._storage)
    optuna.create_study(study_name=study.study_name, storage=study._storage, direction="minimize").add_trials(trials)
    path.unlink()
    with pytest.raises(ConfigChanged, match="keeps no configuration"):
        settle(composed(tmp_path, whole_space=True))


@pytest.mark.parametrize("policy", ["ask", "abort"])
def test_abort_changes_nothing_and_names_the_ways(policy, tmp_path):
    begin(tmp_path)
    before = everything_in(tmp_path)
    new = composed(tmp_path, "trainer.epochs=50", f"on_config_change={policy}", f"{SPACE}.high=0.1", whole_space=True)
    with pytest.raises(ConfigChanged) as caught:
        settle(new)
    assert caught.value.exit_code == 2
    rows = [line.split() for line in str(caught.value).splitlines() if "trainer.epochs" in line or SPACE in line]
    assert rows == [["trainer.epochs", "100", "50", "breaking"], [f"{SPACE}.high", "0.01", "0.1", "compatible"]]
    assert all(way in str(caught.value) for way in ("=reuse", "=overwrite", "tuning_id="))
    assert everything_in(tmp_path) == before


def test_a_config_may_change_until_the_first_trial(tmp_path):
    begin(tmp_path, trials=0)
    study_in(tmp_path).enqueue_trial({"learning_rate": 1e-3})
    plan = settle(composed(tmp_path, "objective=dual", whole_space=True))
    assert len(study_in(tmp_path).directions) == 2 and study_in(tmp_path).trials == []
    assert changes(kept_config(study_in(tmp_path), tmp_path / "out"), plan.config) == []


def test_models_of_a_study_in_another_storage_are_not_written_over(tmp_path):
    run_study(composed(tmp_path, "trials=1", "pruner=none"), RUNNERS + "quadratic")
    (model,) = (tmp_path / "out/models").glob("*/*")
    before = model.stat().st_mtime_ns
    elsewhere = composed(tmp_path, f"storage.path={tmp_path}/other.db", "trials=1", "pruner=none")
    with pytest.raises(UserError, match="models has those of another one: of another storage"):
        run_study(elsewhere, RUNNERS + "quadratic")
    assert model.stat().st_mtime_ns == before


def test_a_study_without_trials_that_another_coordinator_runs_keeps_its_config(tmp_path):
    begin(tmp_path, trials=0)
    Presence(study_in(tmp_path)).beat()  # this process, under another name
    with pytest.raises(ConfigChanged, match=r"trainer\.epochs"):
        settle(composed(tmp_path, "trainer.epochs=50", whole_space=True))


def test_others_stop_what_would_change_their_trials(tmp_path):
    begin(tmp_path)
    Presence(study_in(tmp_path)).beat()
    before = everything_in(tmp_path)
    for way in ([f"{SPACE}.high=0.1", "on_config_change=reuse"], ["seed=3", "on_config_change=overwrite"]):
        with pytest.raises(ConfigChanged, match="while it is run by others"):
            settle(composed(tmp_path, *way, whole_space=True))
    assert everything_in(tmp_path) == before
    plan = settle(composed(tmp_path, "seed=3", "on_config_change=reuse", whole_space=True))
    assert plan.config.seed == 42


def test_reuse_keeps_breaking_keys_and_says_so(tmp_path, capsys):
    begin(tmp_path)
    before = everything_in(tmp_path)[:2]
    new = ("trainer.epochs=50", "sampler.n_startup_trials=3", "trials=50", "on_config_change=reuse")
    plan = settle(composed(tmp_path, *new, whole_space=True))
    assert (plan.config.trainer.epochs, plan.config.sampler.n_startup_trials, plan.config.trials) == (100, 3, 50)
    assert "trainer.epochs stays 100" in capsys.readouterr().out
    after = everything_in(tmp_path)[:2]
    assert after[1] == before[1] and list(tmp_path.iterdir()) and set(after[0]) == set(before[0])
    settle(composed(tmp_path, "sampler.n_startup_trials=3", "on_config_change=abort", whole_space=True))


def test_data_that_has_been_replaced_cannot_be_reused(tmp_path):
    """Its number of parameters is written into the config by whoever reads the data."""

    def replan(config):
        config.dataset.n_parameters = 2
        return plan_study(config)

    begin(tmp_path, "dataset.n_parameters=0")
    before = everything_in(tmp_path)
    config = composed(tmp_path, "dataset.n_parameters=2", "on_config_change=reuse", whole_space=True)
    with pytest.raises(ConfigChanged, match=r"no longer to be had: dataset\.n_parameters 0 -> 2"):
        settle(config, replan=replan)
    assert everything_in(tmp_path) == before


def resumed_as(command, folder):
    """Config that a printed command composes, with the whole space."""
    return composed(folder, *shlex.split(command.replace("\\\n", " "))[2:], whole_space=True)


def way_back(printed):
    """The command that is printed under a backup."""
    return printed.split("go on with it by\n", 1)[1].split("\n\n")[0]


SPREAD = "storage.path={}/${{tuning_id}}/study.db", "output_dir={}/${{tuning_id}}/out"


@pytest.mark.parametrize("own_folders", [False, True], ids=["same_database", "own_database"])
def test_overwrite_leaves_a_way_back_that_works(own_folders, tmp_path, capsys):
    places = [text.format(tmp_path) for text in SPREAD] if own_folders else []
    old = begin(tmp_path, *places)
    with storage.opened(OmegaConf.to_object(old.config.storage)) as database:
        before = facts(optuna.load_study(study_name=old.name, storage=database.storage))
    typed = [*places, "trainer.epochs=50", "~search_space.momentum", "+search_space.trainer.batch_size.choices=[8,9]",
             "sampler=random", "search_space.optimizer.choices=[sgd]", "dataset=brusselator", "tuning_id=robertson",
             "on_config_change=overwrite"]  # fmt: skip
    capsys.readouterr()
    new = settle(composed(tmp_path, *typed, whole_space=True), typed)
    printed = capsys.readouterr().out
    with storage.opened(OmegaConf.to_object(new.config.storage)) as database:
        study = optuna.load_study(study_name=new.name, storage=database.storage)
        assert study.trials == [] and changes(kept_config(study, new.folder), new.config) == []
    assert not (new.folder / "models").exists()
    assert len(list(new.folder.glob("optuna_config.yaml.bak-*"))) == 1
    back = resumed_as(way_back(printed), tmp_path)
    again = plan_study(back)
    assert changes(old.config, again.config) and again.name.startswith("robertson.bak-") and again.folder != new.folder
    again = settle(back)  # without on_config_change: nothing has changed
    with storage.opened(OmegaConf.to_object(back.storage)) as database:
        assert facts(optuna.load_study(study_name=again.name, storage=database.storage)) == before
    assert {path.name for path in (again.folder / "models").iterdir()} == {"0", "1"}
    assert (again.folder / "models/1/model").read_text() == "model 1"


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
    assert trial.distributions == {p.name: distribution(p) for p in plan.space if p.name in trial.params}


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


def killed_at(step, config):
    """Whether a process that settles ``config`` is killed at its ``step``-th write, to the database or to a folder."""
    pid = os.fork()
    if pid == 0:
        writes = itertools.count(1)

        def write(*_):
            if next(writes) == step:
                os.kill(os.getpid(), signal.SIGKILL)

        sqlalchemy.event.listen(sqlalchemy.Engine, "commit", write)
        watched = ("os.rename", "os.remove", "os.rmdir", "os.link", "os.mkdir", "shutil.rmtree", "shutil.copyfile")
        sys.addaudithook(lambda event, _: write() if event in watched else None)
        try:
            settle(config)
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(pid, 0)[1])


@pytest.mark.slow
@pytest.mark.parametrize("way", ["reuse", "overwrite"])
def test_a_kill_between_any_two_writes_loses_nothing(way, tmp_path):
    begin(tmp_path / "begun", trials=2, whole_space=False)
    before = facts(study_in(tmp_path / "begun"))
    step, stride, killed = 1, 11, True
    while killed:
        here = tmp_path / str(step)
        shutil.copytree(tmp_path / "begun", here)
        config = composed(here, f"{SPACE}.high=1.0", f"on_config_change={way}")
        killed = killed_at(step, config)
        settle(config)
        names = optuna.get_all_study_names(study_in(here)._storage)
        kept = [optuna.load_study(study_name=name, storage=study_in(here)._storage) for name in names]
        assert any(facts(study) == before for study in kept if ".bak-" in study.study_name)
        assert "robertson_MultiONet.prepared" not in names
        assert [trial.number for trial in study_in(here).trials] == ([0, 1] if way == "reuse" else [])
        folder = "out" if way == "reuse" else "out.bak-*"
        assert {path.parent.name for path in here.glob(f"{folder}/models/*/model")} == {"0", "1"}
        assert (here / "out/models").exists() is (way == "reuse")
        step += stride
    assert step > 5 * stride


def in_a_terminal(folder, *overrides, answers=(), background=False):
    """Exit code and output of a launch in a terminal of its own, where every prompt gets the next answer."""
    command = [sys.executable, "-m", "tests.tuning.studies", str(folder), RUNNERS + "quadratic", *overrides]
    if background:
        command = ["bash", "-c", f"set -m; {shlex.join(command)} & wait $!"]
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(ROOT)
        os.execvp(command[0], command)
    output, left = b"", list(answers)
    while True:
        try:
            chunk = os.read(terminal, 4096)
        except OSError:  # on Linux, the other end is closed
            chunk = b""
        if not chunk:
            break
        output += chunk
        if output.count(b"[abort] ") > len(answers) - len(left):
            os.write(terminal, left.pop(0))
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), output.decode().replace("\r\n", "\n")


@pytest.mark.slow
def test_a_terminal_is_asked(tmp_path):
    begin(tmp_path, trials=4, whole_space=False)
    before = everything_in(tmp_path)
    for answers in ([b"what\n", b"\x04"], [b"\x03"]):
        code, output = in_a_terminal(tmp_path, f"{SPACE}.high=0.1", answers=answers)
        assert code == 2 and f"{SPACE}.high  0.01    0.1  compatible" in output
        assert everything_in(tmp_path) == before
    code, output = in_a_terminal(tmp_path, f"{SPACE}.high=0.1", "trials=6", answers=[b"r\n"])
    assert code == 0 and "4 trials are taken over, 0 are left out" in output
    assert sum(outcome_of(trial) in VALID for trial in study_in(tmp_path).trials) == 6


@pytest.mark.slow
def test_nobody_is_asked_who_cannot_answer(tmp_path):
    begin(tmp_path, trials=2, whole_space=False)
    waiting = launch(tmp_path, "quadratic", "seed=1", stdin=subprocess.PIPE)  # nothing is ever written
    assert waiting.wait(timeout=60) == 2
    assert "on_config_change=overwrite" in waiting.communicate()[1]
    code, output = in_a_terminal(tmp_path, "seed=1", background=True)
    assert code == 2 and "[abort]" not in output


@given(
    low=st.floats(1e-6, 1e-3),
    high=st.floats(2e-3, 1.0),
    is_log=st.booleans(),
    choices=st.lists(st.sampled_from(["adamw", "sgd"]), min_size=1, max_size=2, unique=True),
    layers=st.tuples(st.integers(1, 3), st.integers(4, 9)),
    removed=st.sets(st.sampled_from(["momentum", "loss", "scheduler", "beta"])),
)
@settings(max_examples=10, deadline=None)
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
