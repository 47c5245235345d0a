"""What is told of studies that run, have ended, or have died."""

import re
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest

from codes.results.scores import VAL
from codes.results.status import Status, found_storages, statuses
from codes.schema import SURROGATE_SCHEMAS, FileStorageConfig
from codes.status import main
from codes.tuning.outcomes import Outcome
from codes.tuning.study import run_study
from tests.tuning.studies import ELSEWHERE, RUNNERS, composed, entered, held_workers, hold, launch, release, study_in


def status(folder):
    (found,) = statuses(FileStorageConfig("sqlite", f"{folder}/study.db"))
    return found


@pytest.mark.slow
def test_a_study_that_runs_and_is_killed(tmp_path):
    run_study(composed(tmp_path, "trials=3", "pruner=none"), RUNNERS + "in_turn")
    hold(tmp_path)
    process = launch(tmp_path, "held", "trials=40", "devices=[cpu,cpu]", "pruner=none")
    held_workers(tmp_path, 2)
    with closing(sqlite3.connect(tmp_path / "study.db")) as writer:
        writer.execute("BEGIN IMMEDIATE")  # whoever writes waits for nobody who looks, and the other way round
        running = status(tmp_path)
    assert (running.valid, running.target, running.running, running.slots) == (3, 40, 2, 2)
    assert len(running.coordinators) == 1 and running.seconds_left > 0
    process.kill()
    process.communicate()
    release(tmp_path)
    dead = status(tmp_path)
    assert (running.left(), "start the study as before" in dead.left()) == ("", True)
    assert (dead.coordinators, dead.running, dead.seconds_left) == ([], 2, None)


def test_outcomes_best_and_last_error(tmp_path):
    run_study(composed(tmp_path, "trials=5", "pruner=none"), RUNNERS + "in_turn")
    row = dict(
        zip(("study", "valid", "running", "live", "eta", "best", "ended", "error"), status(tmp_path).row(), strict=True)
    )
    assert (row["study"], row["valid"], row["running"], row["eta"]) == ("robertson_MultiONet", "5/5", "", "")
    assert row["best"].startswith("lae99 1.") and " (trial " in row["best"]
    study = study_in(tmp_path)
    study.set_user_attr(f"{VAL}{study.best_trial.number}", {"lae99": 1.25})
    assert ", 1.25 on val (trial" in status(tmp_path).best
    assert "2 crashed" in row["ended"]
    assert row["error"].startswith("trial 8: the worker ended with exit code 3")


def test_a_study_that_is_at_rest_takes_a_line(monkeypatch):
    rest = {"running": 0, "coordinators": [], "silent": 0, "slots": 0, "seconds_left": None, "last_error": ""}
    ended = {Outcome.COMPLETE: 11, Outcome.PRUNED: 9}
    names = [f"primordial_parametric_{name}" for name in SURROGATE_SCHEMAS]
    found = [Status(name, "x", 20, 20, ended, best="lae99 0.05132 (trial 12)", **rest) for name in names]
    monkeypatch.setattr("codes.results.status.found_storages", lambda root: [None])
    monkeypatch.setattr("codes.results.status.statuses", lambda settings: found)
    monkeypatch.setenv("COLUMNS", "98")
    header, *rows = main({}, []).splitlines()
    assert header.split("  ")[1:2] == ["study"] and not re.search("running|coordinators|ETA|last error", header)
    assert [row.split()[0] for row in rows] == names


def test_a_coordinator_elsewhere_may_be_dead(tmp_path):
    run_study(composed(tmp_path, "trials=2", "pruner=none"), RUNNERS + "quadratic")
    entered(study_in(tmp_path), **ELSEWHERE, slots=2)
    assert status(tmp_path).row()[3] == "1 with 2 slots, 1 of them elsewhere if alive"


def test_studies_of_one_tuning_id_by_what_they_keep(tmp_path):
    for index, words in enumerate((["tuning_id=gas"], ["tuning_id=gas", "study_name=mine"], ["tuning_id=gas_v2"])):
        own = [*words, f"output_dir={tmp_path}/{index}"]
        run_study(composed(tmp_path, "trials=1", "pruner=none", *own), RUNNERS + "quadratic")
    found = statuses(FileStorageConfig("sqlite", f"{tmp_path}/study.db"), "gas")
    assert {status.name for status in found} == {"gas_MultiONet", "mine"}


def test_all_studies_under_outputs_and_none(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main({}, []).startswith("no studies here") and not list(tmp_path.iterdir())
    folder = tmp_path / "outputs/tuned/robertson"
    folder.mkdir(parents=True)
    run_study(composed(folder, "trials=2", "pruner=none"), RUNNERS + "quadratic")
    assert [settings.path for settings in found_storages(tmp_path / "outputs")] == [str(folder / "study.db")]
    (tmp_path / "outputs/postgres/data").mkdir(parents=True)  # of a private server
    assert [settings.backend for settings in found_storages(tmp_path / "outputs")] == ["sqlite", "postgres"]
    (tmp_path / "outputs/postgres/data").rmdir()
    assert "robertson_MultiONet" in main({}, []) and "2/2" in main({}, ["tuning_id=robertson"])
    other = tmp_path / "outputs/tuned/other/study.db"
    other.parent.mkdir()
    other.write_bytes(b"no database" * 100)
    _, study, unread = main({}, []).splitlines()
    assert "robertson_MultiONet" in study and re.match(rf"not read: storage.path {other}", unread)


def test_a_study_whose_number_of_trials_follows_from_its_space(tmp_path):
    folder = tmp_path / "outputs/tuned/robertson"
    folder.mkdir(parents=True)
    run_study(composed(folder, "trials=null", "pruner=none"), RUNNERS + "quadratic")
    command = [sys.executable, "-m", "codes.status"]  # in a process that has composed nothing
    told = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert "robertson_MultiONet  15/15" in told.stdout, told.stderr


def test_trials_that_nobody_runs_any_more_are_told(tmp_path):
    run_study(composed(tmp_path, "trials=1", "pruner=none"), RUNNERS + "quadratic")
    study = study_in(tmp_path)
    alive, _ = entered(study), study.ask()
    table = ["tuning_id=robertson", f"storage.path={tmp_path}/study.db"]
    assert "start the study as before" not in main({}, table)
    alive.leave()
    *_, left = main({}, table).splitlines()
    assert re.match(r"robertson_MultiONet: trials were running when .* \(1\); start the study as before", left)
