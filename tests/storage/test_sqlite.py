"""Studies in an SQLite file."""

import os
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import optuna
import pytest
from optuna.trial import TrialState

from codes.errors import UserError
from codes.schema import FileStorageConfig, StorageConfig
from codes.storage import opened


@pytest.fixture
def config(tmp_path):
    return FileStorageConfig("sqlite", str(tmp_path / "a folder" / "study.db"))


@pytest.fixture
def database(config):
    with opened(config) as database:
        yield database


def test_made_with_its_folder_and_a_write_ahead_log(config, database):
    with database.storage.engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 1
    assert os.path.exists(config.path)


def test_what_was_told_is_there_again(config, database):
    study = optuna.create_study(study_name="s", storage=database.storage)
    study.tell(study.ask(), 1.5)
    with opened(config) as again:
        assert optuna.load_study(study_name="s", storage=again.storage).best_value == 1.5


def test_many_threads_write_at_once(database):
    study = optuna.create_study(study_name="s", storage=database.storage)

    def one(_):
        trial = study.ask()
        x = trial.suggest_float("x", 0, 1)
        for step in range(5):
            trial.report(x, step)
        trial.set_user_attr("outcome", "complete")
        study.tell(trial, x)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(one, range(40)))
    assert sorted(trial.number for trial in study.trials) == list(range(40))
    assert {trial.state for trial in study.trials} == {TrialState.COMPLETE}


def test_one_claims_at_a_time(database):
    study = optuna.create_study(study_name="a/b", storage=database.storage)

    def one(_):
        with database.claiming("a/b"), database.claiming("another"):
            count = study.user_attrs.get("count", 0)
            study.set_user_attr("count", count + 1)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(one, range(40)))
    assert study.user_attrs["count"] == 40


def test_not_a_database(config, tmp_path):
    (tmp_path / "a folder").mkdir()
    text = "learning_rate: 1e-3\n" * 100
    (tmp_path / "a folder" / "study.db").write_text(text)
    with pytest.raises(UserError, match=r"storage.path .*study.db: file is not a database"), opened(config):
        pass
    assert (tmp_path / "a folder" / "study.db").read_text() == text


def test_of_something_else_stays_as_it_is(config, tmp_path):
    (tmp_path / "a folder").mkdir()
    with closing(sqlite3.connect(config.path)) as connection, connection:
        connection.execute("CREATE TABLE birds (name TEXT)")
    before = (tmp_path / "a folder" / "study.db").read_bytes()
    with pytest.raises(UserError, match=r"storage.path .*study.db: is a database of something else, with birds"):
        opened(config).__enter__()
    assert (tmp_path / "a folder" / "study.db").read_bytes() == before


def test_of_another_optuna_version(config):
    with opened(config), closing(sqlite3.connect(config.path)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = 'v9.9.9.a'")
    with pytest.raises(UserError, match=r"storage.path .*study.db: .*no longer compatible"), opened(config):
        pass


def test_a_folder_in_the_way(tmp_path):
    with (
        pytest.raises(UserError, match="unable to open database file"),
        opened(FileStorageConfig("sqlite", str(tmp_path))),
    ):
        pass


def test_an_unknown_backend_lists_the_options():
    with pytest.raises(UserError, match="must be one of sqlite"):
        opened(StorageConfig("oracle"))


def test_failures_while_it_runs_name_the_file(config):
    with pytest.raises(UserError, match=r"storage.path .*study.db: no such table: trials"), opened(config) as database:
        study = optuna.create_study(study_name="s", storage=database.storage)
        with closing(sqlite3.connect(config.path)) as connection, connection:
            connection.execute("DROP TABLE trials")
        study.ask()
