"""What every storage of conf/storage promises, with real files, real servers and real processes."""

import math
import signal
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import optuna
import pytest
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import TrialState

from codes.storage import opened
from tests.command import ROOT
from tests.storage import clients
from tests.storage.conftest import remote_config, storage_config

CHOICES = sorted(path.stem for path in (ROOT / "conf/storage").glob("*.yaml"))
CASES = [case for name in CHOICES for case in (["local", "remote"] if name == "postgres" else [name])]
KEPT = [case for case in CASES if case != "memory"]


@pytest.fixture
def config(request, tmp_path):
    """A place where there is nothing yet."""
    if request.param == "local":
        return replace(request.getfixturevalue("local"), database=uuid.uuid4().hex)
    if request.param == "remote":
        server = request.getfixturevalue("foreign")
        return remote_config(server, password=server.connection()["password"], database=uuid.uuid4().hex)
    path = [] if request.param == "memory" else [f"storage.path={tmp_path}/a/study"]
    return storage_config(f"storage={request.param}", *path)


def trials(*cases):
    return pytest.mark.parametrize("config", *cases, indirect=True)


@trials(CASES)
def test_what_a_trial_says_is_kept(config):
    with opened(config) as database:
        study = optuna.create_study(study_name="s", storage=database.storage)
        study.enqueue_trial({"x": 0.25}, user_attrs={"from": "queue"})
        trial = study.ask()
        assert trial.suggest_float("x", 0, 1) == 0.25
        for step, value in enumerate([1.5, math.inf, -math.inf, math.nan]):
            trial.report(value, step)
        database.storage.set_trial_intermediate_value(trial._trial_id, 0, 2.5)
        trial.set_user_attr("claim", {"device": "cpu", "näme": "β'\"%{}"})
        study.tell(trial, 0.5)
        with pytest.raises(UpdateFinishedTrialError):
            database.storage.set_trial_intermediate_value(trial._trial_id, 5, 1.0)
        study.tell(study.ask(), state=TrialState.PRUNED)
        seen = [("COMPLETE", {"x": 0.25}, [0.5], {0: 2.5, 1: math.inf, 2: -math.inf, 3: math.nan})]
        first, second = study.trials
        assert [(first.state.name, first.params, first.values)] == [line[:3] for line in seen]
        assert repr(first.intermediate_values) == repr(seen[0][3])
        assert first.user_attrs == {"from": "queue", "claim": {"device": "cpu", "näme": "β'\"%{}"}}
        assert (second.number, second.state) == (1, TrialState.PRUNED)
        if config.backend != "memory":
            queue = clients.processes.Queue()
            clients.ended(clients.started(clients.read, config, queue))
            assert queue.get()[0] == (*seen[0][:3], repr(seen[0][3]), first.user_attrs)


@trials(CASES)
def test_many_threads_ask_and_tell(config):
    with opened(config) as database:
        study = optuna.create_study(study_name="s", storage=database.storage)

        def one(_):
            trial = study.ask()
            trial.report(trial.suggest_float("x", 0, 1), 0)
            study.tell(trial, 1.0)

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(one, range(24)))
        assert sorted(trial.number for trial in study.trials) == list(range(24))
        assert all(trial.state is TrialState.COMPLETE and len(trial.params) == 1 for trial in study.trials)


@trials(KEPT)
def test_processes_make_a_study_at_the_same_instant_and_claim_it_in_turn(config):
    barrier = clients.processes.Barrier(2)
    clients.ended(*[clients.started(clients.create_and_count, config, barrier, 5) for _ in range(2)])
    with opened(config) as database:
        assert optuna.load_study(study_name="s", storage=database.storage).user_attrs["count"] == 2 * 2 * 5


@trials(KEPT)
def test_the_claim_of_a_killed_process_is_free(config):
    held = clients.processes.Event()
    holder = clients.started(clients.hold, config, held)
    assert held.wait(60)
    with opened(config) as database, ThreadPoolExecutor(1) as pool:
        with database.claiming("another"):
            pass
        waiting = pool.submit(lambda: database.claiming("s").__enter__() or "claimed")
        holder.kill()
        assert waiting.result(60) == "claimed"


@trials(KEPT)
def test_all_that_a_killed_process_has_written_is_there(config):
    killed = clients.started(clients.write_and_die, config)
    killed.join(60)
    assert killed.exitcode == -signal.SIGKILL
    with opened(config) as database:
        (trial,) = optuna.load_study(study_name="s", storage=database.storage).trials
        assert (trial.state, trial.user_attrs, list(trial.params)) == (TrialState.RUNNING, {"claim": "here"}, ["x"])
        assert trial.intermediate_values == dict.fromkeys(range(20), 0.5)


@trials(CASES)
def test_no_address_shows_a_password(config):
    with opened(config) as database:
        assert database.address
        password = getattr(config, "password", None)
        assert password is None or password not in f"{database.address} {config!r} {database.storage.__dict__}"
