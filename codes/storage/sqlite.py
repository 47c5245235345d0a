"""Studies in an SQLite file: nothing to install, nothing to start, any number of slots of one coordinator."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import sqlalchemy
from filelock import FileLock, Timeout
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage

from codes.errors import UserError
from codes.schema import StorageConfig

BUSY_TIMEOUT = 60.0  # seconds to wait for another writer


def open_storage(config: StorageConfig) -> RDBStorage:
    """The file at ``config.path``, made with its tables when there is none.

    Raises ``UserError`` naming the file when it cannot be written, is no database, or is of another Optuna version.
    """
    path = Path(config.path).resolve()
    url = sqlalchemy.URL.create("sqlite", database=str(path)).render_as_string(hide_password=False)
    with named_errors(config):
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(_lock_file(path, "schema")):  # two processes that create the same tables crash each other
            try:
                return RDBStorage(url, engine_kwargs={"creator": lambda: _connect(path)})
            except RuntimeError as error:
                raise UserError(f"storage.path {path}: {error}") from error


@contextmanager
def exclusive(config: StorageConfig, study_name: str) -> Iterator[None]:
    """Mark this process as the one that runs ``study_name``; refuse while another one does.

    The mark is a lock of the operating system on a file beside the database: it goes when its process dies, however.
    """
    path = Path(config.path).resolve()
    lock = FileLock(_lock_file(path, study_name), timeout=0)
    with named_errors(config):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire()
        except Timeout:
            raise UserError(
                f"storage.path {path}: another process runs the study '{study_name}' now; "
                "wait for its end, stop it, or choose another tuning_id"
            ) from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def named_errors(config: StorageConfig) -> Iterator[None]:
    """Turn failures of the database inside into one ``UserError`` that names the file and the cause."""
    try:
        yield
    except (StorageInternalError, sqlalchemy.exc.SQLAlchemyError, sqlite3.Error) as error:
        raise UserError(f"storage.path {Path(config.path).resolve()}: {_root(error)}") from error


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
