"""What ends a study before its budget is spent, and what costs it a trial or a start only."""

import os
import signal
import threading
from pathlib import Path

import pytest
from optuna.trial import TrialState, create_trial

from codes.errors import UserError
from codes.tuning.ledger import outcome_of, record_of
from codes.tuning.outcomes import Outcome
from codes.tuning.study import run_study
from tests.tuning.studies import RUNNERS, composed, held_workers, hold, launch, outcomes, run, study_in


def test_a_trial_without_an_outcome_has_that_of_its_state():
    """Told by another program, or closed before its coordinator could sign."""
    states = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, TrialState.WAITING)
    found = [outcome_of(create_trial(state=state, values=[1.0] if state is states[0] else None)) for state in states]
    assert found == [Outcome.COMPLETE, Outcome.PRUNED, Outcome.FAILED, None]


def test_ten_invalid_trials_at_the_start_stop_the_study_with_the_first_cause(tmp_path):
    with pytest.raises(UserError, match=r"(?s)10 invalid trials in a row; trial 0 failed: .*nowhere.h5.*Traceback"):
        run(tmp_path, "misconfigured", "trials=20")
    assert outcomes(tmp_path) == {"failed": 10}


def test_what_ended_a_study_is_told_also_where_its_table_cannot_be_written(tmp_path, capsys):
    (tmp_path / "out/trials.csv").mkdir(parents=True)
    with pytest.raises(UserError, match="10 invalid trials in a row"):
        run(tmp_path, "misconfigured", "trials=20")
    assert "trials.csv is not up to date: " in capsys.readouterr().out


def test_max_invalid_counts_those_in_a_row_of_a_launch(tmp_path):
    with pytest.raises(UserError, match="after 4 invalid trials in a row; trial 2 out_of_memory: out of memory"):
        run(tmp_path, "in_turn", "max_invalid=3", "trials=5", "pruner=none")
    assert sum(outcomes(tmp_path).values()) == 6
    run(tmp_path, "quadratic", "max_invalid=3", "trials=5", "pruner=none")
    assert outcomes(tmp_path)["complete"] + outcomes(tmp_path)["diverged"] == 5
    run(tmp_path / "other", "in_turn", "max_invalid=4", "trials=5", "pruner=none")
    assert sum(outcomes(tmp_path / "other").values()) == 11  # six of them invalid


def test_after_its_timeout_a_study_starts_no_trial_and_goes_on_later(tmp_path, capsys):
    study = run(tmp_path, "slow", "trials=50", "pruner=none", "timeout=5")
    number = len(study.trials)
    assert 0 < number < 50 and outcomes(tmp_path) == {"complete": number}
    shown = capsys.readouterr().out
    assert f"timeout: no trial starts after 0:05; {number} of 50 are valid" in shown
    assert "the trials that are left" in shown and "best trials" in shown
    run(tmp_path, "quadratic", f"trials={number + 1}", "pruner=none", "timeout=1000")
    assert outcomes(tmp_path) == {"complete": number + 1}


def test_a_timeout_in_which_no_trial_could_start_is_no_error_but_told(tmp_path, capsys):
    assert run(tmp_path, "quadratic", "timeout=0.001", overrides=["trials=5", "timeout=0.001"]).trials == []
    shown = capsys.readouterr().out
    assert "0 of 5 are valid" in shown
    assert "no trial could start within timeout=0.001; give it more" in shown and "timeout=60" in shown


def test_a_full_disk_stops_at_once(tmp_path):
    with pytest.raises(UserError, match="No space left on device") as raised:
        run(tmp_path, "full_disk")
    assert "\n" not in str(raised.value), "its traceback is in a file"
    assert "Traceback" in (tmp_path / "out/tracebacks/trial_0.txt").read_text()
    assert outcomes(tmp_path) == {"failed": 1}


def test_an_error_that_no_file_takes_costs_its_trial(tmp_path):
    study = run(tmp_path, "unwritable", "trials=3", "pruner=none")
    assert outcomes(tmp_path) == {"complete": 3, "failed": 1}
    record = record_of(study.trials[1])
    assert r"data/\udcff.h5" in record["reason"] and r"data/\udcff.h5" in Path(record["traceback"]).read_text()


@pytest.mark.slow
def test_a_traceback_is_written_in_any_language(tmp_path):
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    ran = launch(tmp_path, "unwritable", "trials=3", "pruner=none", **ascii_only)
    _, err = ran.communicate(timeout=60)
    assert ran.returncode == 0, err
    assert "5 µs" in (tmp_path / "out/tracebacks/trial_1.txt").read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_terminal_without_a_sign_is_no_reason_to_end(tmp_path):
    ran = launch(tmp_path, "timed", "trials=12", "pruner=none", PYTHONIOENCODING="ascii")
    out, err = ran.communicate(timeout=60)
    assert ran.returncode == 0, err
    assert r"took 1 \xb1 0 s" in out


def test_a_worker_that_cannot_start_says_why(tmp_path, capsys):
    with pytest.raises(UserError, match="no slot is left"):
        run(tmp_path, "quadratic", warm_up=RUNNERS + "broken_warm_up")
    assert "libcudart" in capsys.readouterr().out
    assert study_in(tmp_path).trials == []


def test_a_worker_that_is_killed_while_it_starts_is_started_again(tmp_path, monkeypatch, capsys):
    kills = tmp_path / "kills"
    monkeypatch.setenv("KILLS", str(kills))
    kills.write_text("2")
    run(tmp_path, "quadratic", "trials=2", warm_up=RUNNERS + "killed_while_it_starts")
    assert sum(outcomes(tmp_path).values()) == 2 and kills.read_text() == "0"
    kills.write_text("9")
    with pytest.raises(UserError, match="no slot is left"):
        run(tmp_path, "quadratic", "trials=4", warm_up=RUNNERS + "killed_while_it_starts")
    assert "killed by SIGKILL" in capsys.readouterr().out and kills.read_text() == "6"


def test_a_worker_that_hangs_while_it_starts_is_started_again(tmp_path, monkeypatch):
    stops = tmp_path / "stops"
    stops.touch()
    monkeypatch.setenv("STOPS", str(stops))
    run(tmp_path, "quadratic", "trials=1", "deadline=2", "pruner=none", warm_up=RUNNERS + "stopped_while_it_starts")
    assert sum(outcomes(tmp_path).values()) == 1 and not stops.exists()


def test_whatever_ends_the_main_thread_settles_the_running_trial(tmp_path):
    """A launcher's handler of a signal raises what it likes: that of submitit SystemExit."""

    def leave(number, frame):
        raise SystemExit(255)

    def send():
        held_workers(tmp_path)
        os.kill(os.getpid(), signal.SIGUSR2)

    hold(tmp_path)
    before, sender = signal.signal(signal.SIGUSR2, leave), threading.Thread(target=send)
    sender.start()
    try:
        with pytest.raises(SystemExit):
            run_study(composed(tmp_path, "trials=3"), RUNNERS + "held")
    finally:
        sender.join()
        signal.signal(signal.SIGUSR2, before)
    assert outcomes(tmp_path) == {"interrupted": 1}
