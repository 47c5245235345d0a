"""Studies that are asked to end: by Ctrl-C, a batch system, or the end of the terminal."""

import os
import signal
import sqlite3
from contextlib import closing, contextmanager

import pytest
from optuna.trial import TrialState

from codes.storage.locks import claiming
from tests.tuning.studies import finish, held_workers, hold, is_gone, outcomes, release, study_in, until

pytestmark = pytest.mark.slow  # each starts a coordinator


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupt_settles_the_running_trial_and_tells_how_to_go_on(signal_number, start, tmp_path):
    hold(tmp_path)
    study = start("held", "trials=3")
    (worker,) = held_workers(tmp_path)
    if signal_number == signal.SIGTERM:  # as a batch system may: each process by itself, a worker first
        os.kill(worker, signal_number)
        study.send_signal(signal_number)
    else:
        os.killpg(study.pid, signal_number)
    out, err = finish(study)
    assert study.returncode == 130
    assert "Traceback" not in err + out
    assert "python tune.py trials=3" in out
    assert outcomes(tmp_path) == {"interrupted": 1}
    assert is_gone(worker)


@contextmanager
def told_to_end(start, folder, signal_number):
    """A study that was sent a signal and has ended its worker; to settle the trial it has to wait for a writer."""
    hold(folder)
    study = start("held", "trials=3")
    (worker,) = held_workers(folder)
    with closing(sqlite3.connect(folder / "study.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        study.send_signal(signal_number)
        until(lambda: is_gone(worker))
        yield study


def test_a_batch_system_may_say_it_twice(start, tmp_path):
    """Slurm does, of a job whose command is started by `srun`."""
    with told_to_end(start, tmp_path, signal.SIGTERM) as study:
        study.send_signal(signal.SIGTERM)
        study.send_signal(signal.SIGHUP)
    out, _ = finish(study)
    assert study.returncode == 130 and "go on with" in out
    assert outcomes(tmp_path) == {"interrupted": 1}


def test_a_batch_systems_signal_to_a_worker_costs_no_trial(start, tmp_path):
    hold(tmp_path)
    study = start("held_before_its_result", "trials=1", "pruner=none")
    (worker,) = held_workers(tmp_path)
    os.kill(worker, signal.SIGTERM)  # its coordinator's comes later, or never
    release(tmp_path)
    _, err = finish(study)
    assert study.returncode == 0, err
    assert outcomes(tmp_path) == {"complete": 1}


def test_a_second_ctrl_c_ends_at_once(start, tmp_path):
    with told_to_end(start, tmp_path, signal.SIGINT) as study:
        study.send_signal(signal.SIGINT)
        finish(study)
    assert study.returncode == 130
    assert [trial.state for trial in study_in(tmp_path).trials] == [TrialState.RUNNING]


def test_ctrl_c_is_heard_while_a_slot_waits_for_its_next_trial(start, tmp_path):
    hold(tmp_path)
    study = start("held_before_its_result", "trials=3")
    (worker,) = held_workers(tmp_path)
    with claiming(tmp_path / "study.db", "robertson_MultiONet"):  # as by a coordinator that was suspended
        release(tmp_path)
        until(lambda: outcomes(tmp_path) == {"complete": 1})
        study.send_signal(signal.SIGINT)
        until(lambda: is_gone(worker))
        study.send_signal(signal.SIGINT)
        finish(study)
    assert study.returncode == 130


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
def test_what_ends_the_whole_group_ends_no_worker_before_its_coordinator_says_so(signal_number, start, tmp_path):
    hold(tmp_path, "train")
    study = start("held_at_a_stage", "trials=2", "pruner=none")
    (worker,) = held_workers(tmp_path)
    os.kill(worker, signal_number)
    hold(tmp_path)
    finish(study)
    assert outcomes(tmp_path) == {"complete": 2}


def test_an_interrupt_settles_every_trial_of_the_stack(start, tmp_path):
    hold(tmp_path)
    study = start("quadratic", "trials=6", "slot.population=4", "warm_start=false")
    held_workers(tmp_path)
    study.send_signal(signal.SIGINT)
    finish(study)
    assert study.returncode == 130
    assert outcomes(tmp_path) == {"interrupted": 4}
