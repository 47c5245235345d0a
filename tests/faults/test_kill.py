"""Studies whose processes are killed for real."""

import csv
import os
import signal
import sqlite3
import time
from contextlib import closing, contextmanager, nullcontext

import optuna
import pytest
from optuna.trial import TrialState

from codes.storage.locks import claiming
from codes.storage.sqlite import open_file
from codes.tuning.ledger import record_of
from codes.tuning.warm_start import KNOWN
from tests.tuning.studies import finish, held_workers, hold, is_gone, launch, outcomes, release, study_in, until

pytestmark = pytest.mark.slow  # each starts one to three coordinators


def test_a_killed_coordinator_leaves_no_worker_and_its_study_goes_on(start, tmp_path):
    hold(tmp_path)
    first = start("held", "trials=4", "devices=[cpu,cpu]")
    workers = held_workers(tmp_path, 2)
    first.kill()
    until(lambda: all(is_gone(worker) for worker in workers))
    release(tmp_path)
    assert {trial.state for trial in study_in(tmp_path).trials} == {TrialState.RUNNING}
    again = start("held", "trials=4", "devices=[cpu,cpu]")
    out, err = finish(again)
    assert again.returncode == 0, err
    assert "2 trials were running when their coordinator died" in out
    found = outcomes(tmp_path)
    assert found.pop("crashed") == 2
    assert sum(found.values()) == 4


@contextmanager
def held_while_told(folder):
    """The result is there, but cannot be written: somebody else writes."""
    with closing(sqlite3.connect(folder / "study.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        number = study_in(folder).trials[-1].number
        hold(folder)
        until(lambda: (folder / f"out/models/{number}/device").exists())
        yield


@contextmanager
def held_before_asking(folder):
    """It is somebody else's turn to take a trial."""
    number = len(study_in(folder).trials)
    with claiming(folder / "study.db", "robertson_MultiONet"):
        hold(folder)
        until(lambda: study_in(folder).trials[-1].state is TrialState.COMPLETE)
        yield
        assert len(study_in(folder).trials) == number


@contextmanager
def held_before_signing(folder):
    """A trial has been made, and the database computes for ever when it is told whose it is."""
    endless = "SELECT count(*) FROM (WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n)"
    new = "BEFORE INSERT ON trial_user_attributes WHEN NEW.key = 'claim'"
    number = len(study_in(folder).trials)
    with closing(sqlite3.connect(folder / "study.db", isolation_level=None)) as other:
        other.execute(f"CREATE TRIGGER stop {new} BEGIN {endless}; END")
        hold(folder)
        until(lambda: len(study_in(folder).trials) > number)
        yield
        other.execute("DROP TRIGGER stop")


STAGES = {  # in the worker: of itself; in the coordinator: by what it waits for
    "train": lambda folder: nullcontext(),
    "save": lambda folder: nullcontext(),
    "tell": held_while_told,
    "ask": held_before_asking,
    "sign": held_before_signing,
}


@pytest.mark.parametrize("who", ["coordinator", "worker", "both"])
def test_a_kill_at_every_stage_of_a_trial(who, start, tmp_path):
    study = None
    for stage, held in STAGES.items():
        if (who, stage) == ("worker", "sign"):
            continue  # it has nothing to do meanwhile, as in "ask"
        hold(tmp_path, stage)
        study = study or start("held_at_a_stage", "trials=6", "pruner=none")
        (worker,) = held_workers(tmp_path)
        with held(tmp_path):
            if who != "coordinator":
                os.kill(worker, signal.SIGKILL)
            if who != "worker":
                study.kill()
                study.communicate()
                study = None
        until(lambda pid=worker: is_gone(pid))
    hold(tmp_path)
    study = study or start("held_at_a_stage", "trials=6", "pruner=none")
    _, err = finish(study)
    assert study.returncode == 0, err
    found = outcomes(tmp_path)
    assert found.pop("complete") == 6 and 2 <= found.pop("crashed") <= 4 and not found
    with (tmp_path / "out/trials.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["number"]) for row in rows] == list(range(len(study_in(tmp_path).trials)))
    listed = [row["model"] for row in rows if row["model"]]
    assert len(listed) == 6 and all((tmp_path / "out" / model / "device").exists() for model in listed)
    assert all(record_of(trial)["reason"] for trial in study_in(tmp_path).get_trials(states=[TrialState.FAIL]))


def test_a_killed_worker_costs_its_trial_only(start, tmp_path):
    hold(tmp_path)
    queue = optuna.create_study(study_name="robertson_MultiONet", storage=open_file(tmp_path / "study.db"))
    queue.enqueue_trial({"learning_rate": 0.002}, user_attrs={KNOWN: "a promoted optimum"})
    study = start("held", "trials=3", "pruner=none")
    (worker,) = held_workers(tmp_path)
    release(tmp_path)
    os.kill(worker, signal.SIGKILL)
    _, err = finish(study)
    assert study.returncode == 0, err
    assert outcomes(tmp_path) == {"crashed": 1, "complete": 3}
    lost, again, other = study_in(tmp_path).trials[:3]
    assert "killed by SIGKILL" in record_of(lost)["reason"]
    assert lost.params == again.params == {"learning_rate": 0.002} != other.params
    assert again.user_attrs[KNOWN] == "a promoted optimum"
    assert is_gone(worker)


def test_a_worker_that_is_stopped_for_longer_than_its_deadline_costs_its_trial_only(tmp_path):
    hold(tmp_path)
    study = launch(tmp_path, "held", "trials=2", "pruner=none", "deadline=2")
    (worker,) = held_workers(tmp_path)
    os.kill(worker, signal.SIGSTOP)
    release(tmp_path)
    _, err = study.communicate(timeout=60)
    assert study.returncode == 0, err
    assert outcomes(tmp_path) == {"crashed": 1, "complete": 2}
    assert "gave no sign of life for 2 s" in record_of(study_in(tmp_path).trials[0])["reason"]


def test_a_study_goes_on_without_whoever_read_what_it_prints(start, tmp_path):
    hold(tmp_path)
    study = start("held_before_its_result", "trials=3", "pruner=none")
    held_workers(tmp_path)
    study.stdout.close()
    release(tmp_path)
    assert study.wait(60) == 0, study.stderr.read()
    assert outcomes(tmp_path) == {"complete": 3}


def test_a_study_that_is_suspended_for_longer_than_its_deadline_goes_on(start, tmp_path):
    """As by Ctrl-Z: that its workers gave no sign meanwhile is no fault of theirs."""
    hold(tmp_path)
    study = start("held_before_its_result", "trials=1", "pruner=none", "deadline=3")
    held_workers(tmp_path)
    os.killpg(study.pid, signal.SIGSTOP)
    stopped = time.monotonic()
    until(lambda: time.monotonic() > stopped + 4)
    release(tmp_path)
    os.killpg(study.pid, signal.SIGCONT)
    _, err = finish(study)
    assert study.returncode == 0, err
    assert outcomes(tmp_path) == {"complete": 1}


def test_two_coordinators_share_one_budget_and_the_trials_of_the_one_that_dies(start, tmp_path):
    hold(tmp_path)
    first = start("held", "trials=9", "pruner=none")
    held_workers(tmp_path)
    release(tmp_path)
    second = start("held", "trials=9", "pruner=none", "devices=[cpu,cpu]")
    until(lambda: outcomes(tmp_path) == {"complete": 8})  # and the ninth is held
    first.kill()
    out, err = finish(second)
    assert second.returncode == 0, err
    assert "run by others too" in out and "another coordinator died; 1 trials" in out
    assert outcomes(tmp_path) == {"complete": 9, "crashed": 1}


def test_coordinators_that_start_at_the_same_instant_are_exact(start, tmp_path):
    rivals = [start("quadratic", "trials=20", "devices=[cpu,cpu]") for _ in range(3)]
    for rival in rivals:
        _, err = finish(rival)
        assert rival.returncode == 0, err
    trials = study_in(tmp_path).trials
    assert sum(outcomes(tmp_path).values()) == 20
    assert sorted(record_of(trial)["seed"] for trial in trials) == list(range(42, 62))
    assert len({trial.params["learning_rate"] for trial in trials}) == 20


def test_eight_slots_killed_again_and_again_end_with_exactly_the_valid_trials(start, tmp_path):
    slots = "devices=[cpu,cpu,cpu,cpu,cpu,cpu,cpu,cpu]"
    for more in (3, 6):
        study = start("quadratic", "trials=200", slots)
        until(lambda enough=more: (tmp_path / "study.db").exists() and len(study_in(tmp_path).trials) >= enough)
        study.kill()
        study.communicate()
    last = start("quadratic", "trials=60", slots)
    _, err = finish(last)
    assert last.returncode == 0, err
    found = outcomes(tmp_path)
    found.pop("crashed", None)
    assert set(found) <= {"complete", "pruned"} and sum(found.values()) == 60


@pytest.mark.parametrize("who", ["worker", "coordinator"])
def test_a_kill_costs_the_trials_of_the_stack_and_the_budget_stays_exact(who, start, tmp_path):
    hold(tmp_path)
    overrides = ("trials=12", "slot.population=12", "pruner=none", "warm_start=false")
    study = start("quadratic", *overrides)
    (worker,) = held_workers(tmp_path)
    release(tmp_path)
    if who == "worker":
        os.kill(worker, signal.SIGKILL)
    else:
        study.kill()
        study.communicate()
        study = start("quadratic", *overrides)
    _, err = finish(study)
    assert study.returncode == 0, err
    assert outcomes(tmp_path) == {"complete": 12, "crashed": 12}
    ends = [record_of(trial)["duration"] for trial in study_in(tmp_path).trials[:12]]
    assert who == "coordinator" or len(set(map(round, ends))) == 1


def test_two_coordinators_with_stacks_are_exact(start, tmp_path):
    overrides = ("trials=23", "slot.population=4", "pruner=none", "warm_start=false")
    for process in [start("quadratic", *overrides) for _ in range(2)]:
        _, err = finish(process)
        assert process.returncode == 0, err
    assert outcomes(tmp_path) == {"complete": 23}
