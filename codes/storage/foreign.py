"""Files in the place of an SQLite study: refused before anything is written to them if they are something else."""

import sqlite3
from contextlib import closing
from functools import partial
from pathlib import Path

from optuna.storages import RDBStorage
from optuna.storages._rdb import models

from codes.errors import UserError
from codes.locks import check_makes_files

MAGIC = b"SQLite format 3\0"  # how every database begins
VERSION = "alembic_version"  # Optuna's last table to be made, and filled
TABLES = {name: {column.name for column in table.columns} for name, table in models.BaseModel.metadata.tables.items()}
TABLES |= {VERSION: {"version_num"}}


def check_folder(path: Path) -> None:
    """Raise ``UserError`` unless files may be made beside ``path``, as SQLite does."""
    try:
        check_makes_files(path.parent)
    except OSError as error:
        raise UserError(
            f"storage.path {path}: its folder may not be written to ({error.strerror}), and SQLite writes beside it; "
            "choose another folder or storage"
        ) from error


def check_file(path: Path, patience: float) -> None:
    """Raise ``UserError`` if ``path`` is there and is neither empty nor Optuna's, of another version, or damaged.

    Waits ``patience`` seconds for a writer. Where a kill has left a part of the tables, Optuna makes the others.
    """
    if not path.exists() or (path.is_file() and path.stat().st_size == 0):
        return
    if not path.is_file() or _beginning(path) != MAGIC:
        raise UserError(f"storage.path {path}: is not a database of SQLite; choose another path")
    with closing(_reading(path, patience)) as connection:
        tables = {name: _columns(connection, name) for name in _tables(connection)}
        made = {VERSION, "version_info"} <= set(tables) and _is_filled(connection, VERSION)
    alien = [name for name, columns in tables.items() if not TABLES.get(name, {name}) <= columns]
    if made:
        _check_version(path, patience)
    elif alien:
        raise UserError(f"storage.path {path}: is a database of something else, with {', '.join(sorted(alien)[:3])}")
    _check_whole(path, patience)


def _check_whole(path: Path, patience: float) -> None:
    """An index that has lost entries hides trials without an error, and their numbers would be given again."""
    with closing(_reading(path, patience)) as connection:
        (first,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
    if first != "ok":
        raise UserError(
            f"storage.path {path}: is damaged ({first}), as a copy is that was made while a study wrote; put back a "
            f"copy that is whole, or save what is left: sqlite3 {path.name} .recover | sqlite3 saved.db"
        )


def _check_version(path: Path, patience: float) -> None:
    """As Optuna does when it opens a storage, which it may not write to here."""
    settings = {"creator": partial(_reading, path, patience)}
    try:
        storage = RDBStorage("sqlite://", engine_kwargs=settings, skip_table_creation=True)
    except RuntimeError as error:
        raise UserError(f"storage.path {path}: {error}") from error
    storage.engine.dispose()


def _beginning(path: Path) -> bytes:
    with open(path, "rb") as file:
        return file.read(len(MAGIC))


def _reading(path: Path, patience: float) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=patience, check_same_thread=False)


def _tables(connection: sqlite3.Connection) -> list[str]:
    return [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]


def _columns(connection: sqlite3.Connection, table: str) -> set[str]:
    return {name for (name,) in connection.execute("SELECT name FROM pragma_table_info(?)", (table,))}


def _is_filled(connection: sqlite3.Connection, table: str) -> bool:
    return connection.execute(f"SELECT 1 FROM {table}").fetchone() is not None
