"""Studies in an SQLite file: nothing to install, nothing to start, any number of slots and coordinators of one host."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import sqlalchemy
from filelock import FileLock
from optuna.exceptions import StorageInternalError

from codes.errors import UserError
from codes.schema import FileStorageConfig
from codes.storage.database import Database
from codes.storage.foreign import check_file, check_folder
from codes.storage.lean import LeanStorage
from codes.storage.locks import claiming, lock_path
from codes.storage.mounts import refuse_network

BUSY_TIMEOUT = 60.0  # seconds to wait for another writer
ELSEWHERE = (
    "SQLite's locks do not hold there, and a study can be destroyed; "
    "use storage=journal or storage=postgres, or set storage.path to a folder of this host"
)


@contextmanager
def opened(config: FileStorageConfig) -> Iterator[Database]:
    """The file at ``config.path``, made with its tables when there is none.

    Raises ``UserError`` naming the file when it cannot be written, is no database, or is of another Optuna version.
    """
    path = Path(config.path).resolve()
    with named_errors(path):
        storage = open_file(path)
        try:
            yield Database(storage, partial(claiming, path), str(config.path), of_one_host=True)
        finally:
            storage.engine.dispose()


def open_file(path: Path) -> LeanStorage:
    """The Optuna storage in the file ``path``."""
    refuse_network("storage.path", path, ELSEWHERE)
    path.parent.mkdir(parents=True, exist_ok=True)
    check_folder(path)
    with FileLock(lock_path(path, "schema")):  # two processes that create the same tables crash each other
        check_file(path, BUSY_TIMEOUT)
        return LeanStorage(_url(path), engine_kwargs={"creator": lambda: _connect(path)})


def open_existing(path: Path) -> LeanStorage:
    """The Optuna storage in a file that has its tables already; without locks, whoever else uses it."""
    check_folder(path)
    check_file(path, BUSY_TIMEOUT)
    return LeanStorage(_url(path), engine_kwargs={"creator": lambda: _connect(path)}, skip_table_creation=True)


def _url(path: Path) -> str:
    return sqlalchemy.URL.create("sqlite", database=str(path)).render_as_string(hide_password=False)


@contextmanager
def named_errors(path: Path) -> Iterator[Path]:
    """Turn failures of the database inside into one ``UserError`` that names the file and the cause."""
    try:
        yield path
    except (StorageInternalError, sqlalchemy.exc.SQLAlchemyError, sqlite3.Error) as error:
        raise UserError(f"storage.path {path}: {_root(error)}") from error


def _connect(path: Path) -> sqlite3.Connection:
    """A connection with a write-ahead log and ``synchronous=NORMAL``: four times the commits of SQLite's defaults.

    A kill loses nothing; a power cut may lose the last commits, and leaves the file whole.
    """
    connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT, check_same_thread=False)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    return connection


def _root(error: BaseException) -> BaseException:
    return error if error.__cause__ is None else _root(error.__cause__)
