"""Studies in an SQLite file: nothing to install, nothing to start, any number of slots and coordinators of one host."""

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import sqlalchemy
from optuna.exceptions import StorageInternalError

from codes.errors import UserError
from codes.locks import lock_on
from codes.schema import FileStorageConfig
from codes.storage.database import Database, root_of
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
        check = partial(_check_there, path, _identity(path), storage)
        try:
            yield Database(storage, partial(_claiming, path, check), str(config.path), of_one_host=True)
            check()
        finally:
            storage.engine.dispose()


def open_file(path: Path) -> LeanStorage:
    """The Optuna storage in the file ``path``."""
    refuse_network("storage.path", path, ELSEWHERE)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"storage.path {path}: its folder cannot be made ({error.strerror}); choose another") from error
    check_folder(path)
    with lock_on(lock_path(path, "schema")):  # two processes that create the same tables crash each other
        check_file(path, BUSY_TIMEOUT)
        return LeanStorage(_url(path), engine_kwargs={"creator": lambda: _connect(path)})


def open_existing(path: Path) -> LeanStorage:
    """The Optuna storage in a file that has its tables already; without locks, whoever else uses it."""
    check_folder(path)
    check_file(path, BUSY_TIMEOUT)
    return LeanStorage(_url(path), engine_kwargs={"creator": lambda: _connect(path)}, skip_table_creation=True)


@contextmanager
def _claiming(path: Path, check: Callable[[], None], study_name: str) -> Iterator[None]:
    with claiming(path, study_name):
        check()
        yield


def _identity(path: Path) -> tuple[int, int] | None:
    """What stays as long as ``path`` is the same file; None where there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _check_there(path: Path, identity: tuple[int, int] | None, storage: LeanStorage) -> None:
    """Refuse to go on where the file was deleted or replaced: what is written to it ends with this process."""
    if _identity(path) == identity:
        return
    saved = path.with_name(f"{path.name}.saved-{time.strftime('%Y%m%d-%H%M%S')}")
    saved.parent.mkdir(parents=True, exist_ok=True)
    with storage.engine.connect() as connection, closing(sqlite3.connect(saved)) as copy:
        lost: Any = connection.connection.driver_connection
        lost.backup(copy)
    raise UserError(
        f"storage.path {path}: was deleted or replaced by another program while the study ran; what it had until now "
        f"is saved in {saved}: remove {path.name}-wal and {path.name}-shm, move it to {path.name} and start again"
    )


def _url(path: Path) -> str:
    return sqlalchemy.URL.create("sqlite", database=str(path)).render_as_string(hide_password=False)


@contextmanager
def named_errors(path: Path) -> Iterator[Path]:
    """Turn failures of the database inside into one ``UserError`` that names the file and the cause."""
    try:
        yield path
    except (StorageInternalError, sqlalchemy.exc.SQLAlchemyError, sqlite3.Error) as error:
        raise UserError(f"storage.path {path}: {root_of(error)}") from error


def _connect(path: Path) -> sqlite3.Connection:
    """A connection with a write-ahead log and ``synchronous=NORMAL``: four times the commits of SQLite's defaults.

    A kill loses nothing; a power cut may lose the last commits, and leaves the file whole.
    """
    connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT, check_same_thread=False)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    return connection
