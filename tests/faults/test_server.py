"""PostgreSQL servers and coordinators that are killed in the middle of a study."""

import csv
import os
import signal
import threading
import uuid
from functools import partial

import optuna
import pytest
import sqlalchemy
from optuna.trial import TrialState

import codes
from codes.storage import opened
from codes.tuning.ledger import Ledger, counts, outcome_of
from codes.tuning.outcomes import Outcome, Verdict
from codes.tuning.presence import Presence
from tests import command
from tests.command import ROOT, SMALL
from tests.storage.conftest import administrator, postmaster, remote_config
from tests.tuning.studies import held_workers, hold, launch, release, until

pytestmark = pytest.mark.slow
STUDY = [*SMALL, "surrogate=FullyConnected", "trials=6", "pruner=none", "devices=[cpu,cpu]", "keep_models=null"]


@pytest.fixture(params=["local", "remote"])
def server(request):
    """Where a study is kept, the environment with its password, its server, and what starts that again after a kill."""
    if request.param == "local":  # the coordinator does
        config = request.getfixturevalue("fresh")
        return ["storage=postgres", f"storage.data_dir={config.data_dir}"], {}, config, lambda: None
    foreign = request.getfixturevalue("foreign")
    config = remote_config(foreign)
    where = [f"storage.{key}={getattr(config, key)}" for key in ("host", "port", "user")]
    place = ["storage=postgres", "storage.mode=remote", f"storage.database={uuid.uuid4().hex}", *where]
    return place, {"PGPASSWORD": foreign.connection()["password"]}, foreign.config, foreign.ensure


def test_a_study_outlives_the_death_of_its_server_twice(server, tmp_path):
    place, password, config, start = server
    with command.start(str(ROOT / "tune.py"), *STUDY, *place, folder=tmp_path, **password) as study:
        models = partial(tmp_path.glob, "outputs/tuned/*/*/models/*")
        for goal in (1, 4):
            until(lambda number=goal: len(list(models())) >= number or study.poll() is not None, 120)
            assert study.poll() is None, study.communicate()
            os.kill(postmaster(config), signal.SIGKILL)
            start()
        _, err = study.communicate(timeout=120)
    assert study.returncode == 0, err
    folder = tmp_path / "outputs/tuned/robertson/FullyConnected"
    with (folder / "trials.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(int(row["number"]), row["outcome"]) for row in rows] == [(number, "complete") for number in range(6)]
    for row in rows:
        codes.load(folder / row["model"])


def test_a_study_that_is_ended_while_it_starts_leaves_no_server(tmp_path, fresh):
    study = launch(tmp_path, "quadratic", "storage=postgres", f"storage.data_dir={fresh.data_dir}", "trials=500")
    until(lambda: postmaster(fresh))
    study.terminate()
    _, err = study.communicate(timeout=60)
    assert study.returncode == 130, err
    assert postmaster(fresh) is None


def test_two_coordinators_share_a_study_on_a_server_and_one_is_killed(tmp_path, fresh):
    server = ["storage=postgres", f"storage.data_dir={fresh.data_dir}", "pruner=none", "trials=9"]
    hold(tmp_path)
    first = launch(tmp_path, "held", *server)
    held_workers(tmp_path)
    release(tmp_path)
    second = launch(tmp_path, "held", *server, "devices=[cpu,cpu]")
    until(lambda: len(list(tmp_path.glob("out/models/*"))) == 8)  # the ninth trial is held by the first
    first.kill()
    first.communicate()
    out, err = second.communicate(timeout=60)
    assert second.returncode == 0, err
    assert "run by others too" in out and "1 trials of it are closed as crashed" in out
    assert postmaster(fresh) is None, "the last one has stopped the server"
    with opened(fresh) as database:
        study = optuna.load_study(study_name="robertson_MultiONet", storage=database.storage)
        ended = counts(study.trials)
    assert {outcome.value: number for outcome, number in ended.items()} == {"complete": 9, "crashed": 1}


def test_a_server_that_is_killed_and_started_again_loses_no_trial(foreign):
    """Threads ask, report and tell while the server dies three times, under claims as the ledger makes them."""
    password = foreign.connection()["password"]
    config = remote_config(foreign, password=password, database=uuid.uuid4().hex)
    with opened(config) as database:
        study = optuna.create_study(study_name="s", storage=database.storage)
        told = []

        def work():
            for _ in range(15):
                with database.claiming("s"):
                    trial = study.ask()
                x = trial.suggest_float("x", 0, 1)
                for step in range(5):
                    trial.report(x, step)
                trial.set_user_attr("x", x)
                study.tell(trial, x)
                told.append((trial.number, x))

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for goal in (10, 25, 40):
            while len(told) < goal:
                threads[0].join(0.01)
            os.kill(postmaster(foreign.config), signal.SIGKILL)
            foreign.ensure()
        for thread in threads:
            thread.join()
        trials = study.trials
        assert sorted(told) == [(trial.number, trial.value) for trial in trials]
        assert len(trials) == 60
        assert all(trial.state is TrialState.COMPLETE for trial in trials)
        assert all(trial.params["x"] == trial.value == trial.user_attrs["x"] for trial in trials)


def test_a_claim_that_breaks_in_the_middle_does_not_exceed_the_budget(foreign):
    """As when its host is cut off for two minutes, or the server starts anew, after the trials have been counted."""
    config = remote_config(foreign, password=foreign.connection()["password"], database=uuid.uuid4().hex)
    with opened(config) as first, opened(config) as second, administrator(foreign) as server:
        ledgers = []
        for database in (first, second):
            study = optuna.create_study(study_name="s", storage=database.storage, load_if_exists=True)
            presence = Presence(study)
            presence.beat()
            ledgers.append(Ledger(study, 1, presence, partial(database.claiming, "s")))
        others = []

        def before(connection, cursor, statement, *rest):
            if "FOR UPDATE" in statement and not others:  # a trial is about to be made
                server.execute("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted")
                others.append(ledgers[1].claim("cpu", "a CPU", 42))

        sqlalchemy.event.listen(first.storage.engine, "before_cursor_execute", before)
        assert ledgers[0].claim("cpu", "a CPU", 42) is None
        assert ledgers[1].settle(others[0], Verdict(Outcome.COMPLETE), [0.5])
        ended = [(trial.number, outcome_of(trial).value) for trial in ledgers[0].trials()]
    assert ended == [(0, "complete"), (1, "interrupted")]
