"""Studies in an SQLite file: nothing to install, nothing to start, any number of slots and coordinators of one host."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from urllib.parse import quote

import sqlalchemy
from filelock import FileLock
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage

from codes.errors import UserError
from codes.schema import StorageConfig
from codes.storage.database import Database

BUSY_TIMEOUT = 60.0  # seconds to wait for another writer


@contextmanager
def opened(config: StorageConfig) -> Iterator[Database]:
    """The file at ``config.path``, made with its tables when there is none.

    Raises ``UserError`` naming the file when it cannot be written, is no database, or is of another Optuna version.
    """
    path = Path(config.path).resolve()
    with _named_errors(path):
        storage = open_file(path)
        try:
            yield Database(storage, partial(_claiming, path), str(config.path))
        finally:
            storage.engine.dispose()


def open_file(path: Path) -> RDBStorage:
    """The Optuna storage in the file ``path``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    url = sqlalchemy.URL.create("sqlite", database=str(path)).render_as_string(hide_password=False)
    with FileLock(_lock_file(path, "schema")):  # two processes that create the same tables crash each other
        try:
            return RDBStorage(url, engine_kwargs={"creator": lambda: _connect(path)})
        except RuntimeError as error:
            raise UserError(f"storage.path {path}: {error}") from error


@contextmanager
def _claiming(path: Path, study_name: str) -> Iterator[None]:
    """A lock of the operating system on a file beside the database."""
    with FileLock(_lock_file(path, f"study-{study_name}")):
        yield


@contextmanager
def _named_errors(path: Path) -> Iterator[None]:
    """Turn failures of the database inside into one ``UserError`` that names the file and the cause."""
    try:
        yield
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


def _lock_file(path: Path, name: str) -> Path:
    return path.with_name(f".{path.name}.{quote(name, safe='')}.lock")


def _root(error: BaseException) -> BaseException:
    return error if error.__cause__ is None else _root(error.__cause__)
