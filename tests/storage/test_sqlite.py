"""Studies in an SQLite file."""

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import optuna
import pytest
from optuna.storages._rdb import models
from sqlalchemy.schema import CreateTable

from codes.errors import UserError
from codes.schema import FileStorageConfig, StorageConfig
from codes.storage import existing, opened
from tests.storage.conftest import storage_config
from tests.test_cli import in_namespace


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
    assert database.of_one_host  # else who died with the host is waited for after its restart


def text(path):
    path.write_text("learning_rate: 1e-3\n" * 100)


def one_line(path):
    """SQLite itself takes so short a file for an empty database."""
    path.write_text("\n")


def birds(path):
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE birds (name TEXT)")


def patients(path):
    """Two names of tables are Optuna's too."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executescript("CREATE TABLE studies (patient TEXT); CREATE TABLE alembic_version (version_num TEXT)")
        connection.execute("INSERT INTO alembic_version VALUES ('1')")


def older(path):
    """As another Optuna makes it: without a write-ahead log, with other tables."""
    with opened(FileStorageConfig("sqlite", str(path))):
        pass
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA journal_mode = DELETE")
        connection.execute("UPDATE alembic_version SET version_num = 'v9.9.9.a'")
        connection.execute("DROP TABLE trial_heartbeats")


def cut(path):
    with opened(FileStorageConfig("sqlite", str(path))) as database:
        optuna.create_study(storage=database.storage).enqueue_trial({"x": 1.0})
    path.write_bytes(path.read_bytes()[: 5 * 4096])


def mixed(path):
    """Pages of two moments, as in a copy that was made while a study wrote: an index lacks the later trials."""
    with opened(FileStorageConfig("sqlite", str(path))) as database:
        study = optuna.create_study(storage=database.storage)
        study.ask()
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            index = "SELECT rootpage FROM sqlite_master WHERE name = 'ix_trials_study_id'"
            ((number,),) = connection.execute(index)
        page = slice((number - 1) * 4096, number * 4096)
        early = path.read_bytes()[page]
        study.ask()
    late = bytearray(path.read_bytes())
    late[page] = early
    path.write_bytes(late)


OTHERS = {
    text: "is not a database",
    one_line: "is not a database",
    birds: "is a database of something else, with birds",
    patients: "is a database of something else, with studies",
    older: "no longer compatible",
    cut: "database disk image is malformed",
    mixed: r"is damaged \((row 2 missing from|wrong # of entries in) index ix_trials_study_id\)",
}


@pytest.mark.parametrize("made", OTHERS, ids=lambda made: made.__name__)
@pytest.mark.parametrize("how", [opened, existing])
def test_what_is_something_else_stays_as_it_is(how, made, config):
    path = Path(config.path)
    path.parent.mkdir()
    made(path)
    before = path.read_bytes()
    with pytest.raises(UserError, match=rf"storage.path .*study.db: .*{OTHERS[made]}"), how(config):
        pass
    assert path.read_bytes() == before


def test_tables_that_a_kill_left_unmade_are_made(config):
    Path(config.path).parent.mkdir()
    with closing(sqlite3.connect(config.path)) as connection, connection:
        connection.execute(str(CreateTable(models.StudyModel.__table__)))
    with opened(config) as database:
        assert optuna.create_study(storage=database.storage).ask().number == 0


def test_a_version_that_a_kill_left_unwritten_is_written(config):
    with opened(config):
        pass
    with closing(sqlite3.connect(config.path)) as connection, connection:
        connection.execute("DELETE FROM alembic_version")
    with opened(config) as database:
        assert optuna.create_study(storage=database.storage).ask().number == 0
    with opened(config):
        pass


OPEN = """
import sys
from codes.errors import UserError
from codes.schema import FileStorageConfig
from codes.storage import existing, opened
for how in (opened, existing):
    try:
        how(FileStorageConfig("sqlite", sys.argv[1])).__enter__()
    except UserError as error:
        print(error)
"""


def test_a_folder_that_may_not_be_written_to(config):
    with opened(config):
        pass
    folder = Path(config.path).parent
    prefix = in_namespace(f"cd '{folder}' && mount --bind . . && mount -o remount,ro,bind '{folder}' && cd /")
    told = subprocess.run([*prefix, sys.executable, "-c", OPEN, config.path], capture_output=True, text=True)
    assert told.stdout.count("study.db: its folder may not be written to") == 2, told.stderr


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder that can hold no file")
@pytest.mark.parametrize(
    ("path", "said"), [("/proc/x.db", "may not be written to"), ("/proc/x/y.db", "cannot be made")]
)
def test_a_place_without_files(path, said):
    """Whose permissions allow them: a lock there would be tried for ever."""
    with (
        pytest.raises(UserError, match=rf"storage.path {path}: its folder {said} \(No such file.*; choose another"),
        opened(FileStorageConfig("sqlite", path)),
    ):
        pass


@pytest.mark.parametrize("replaced", [False, True])
@pytest.mark.parametrize("at", ["the next claim", "the end"])
def test_a_file_that_is_deleted_meanwhile_is_saved(at, replaced, config):
    path = Path(config.path)
    said = r"was deleted or replaced .* saved in .*study\.db\.saved-"
    with pytest.raises(UserError, match=said) as error, opened(config) as database:
        study = optuna.create_study(study_name="a", storage=database.storage)
        study.add_trial(optuna.create_trial(value=1.5))
        for file in path.parent.glob("study.db*"):
            file.unlink()
        if replaced:
            path.write_text("another")
        if at == "the next claim":
            with database.claiming("a"):
                raise AssertionError
    assert replaced == path.exists()
    saved = str(error.value).partition("saved in ")[2].partition(": remove")[0]
    with opened(FileStorageConfig("sqlite", saved)) as database:
        assert optuna.load_study(study_name="a", storage=database.storage).best_value == 1.5


def test_a_config_without_storage_means_sqlite():
    assert storage_config("~storage") == storage_config("storage=sqlite")


def test_a_path_with_nul():
    with pytest.raises(UserError, match=r"storage.path: must be without NUL"):
        opened(FileStorageConfig("sqlite", "a\0b"))


def test_a_folder_in_the_way(tmp_path):
    with (
        pytest.raises(UserError, match="is not a database"),
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
