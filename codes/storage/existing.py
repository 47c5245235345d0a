"""Storages that are there already, for whoever reads studies: nothing is made."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from codes import limits
from codes.errors import UserError
from codes.schema import FileStorageConfig, PostgresConfig, StorageConfig
from codes.storage import journal, postgres, sqlite
from codes.storage.database import Database


def existing(config: StorageConfig) -> AbstractContextManager[Database]:
    """Open the storage that ``config`` describes, as ``opened`` does, but make neither files nor tables.

    A private PostgreSQL server is started where it does not run. Raises ``UserError`` where there is nothing yet.
    """
    if config.backend not in EXISTING:
        raise UserError(f"storage.backend={config.backend} keeps no study beyond its process; give the study's storage")
    limits.check(config, "storage")
    opened: AbstractContextManager[Database] = EXISTING[config.backend](config)
    return opened


@contextmanager
def _sqlite(config: FileStorageConfig) -> Iterator[Database]:
    with sqlite.named_errors(_file(config)) as path:
        storage = sqlite.open_existing(path)
        try:
            yield Database(storage, partial(sqlite.claiming, path), str(config.path))
        finally:
            storage.engine.dispose()


@contextmanager
def _journal(config: FileStorageConfig) -> Iterator[Database]:
    _file(config)
    with journal.opened(config) as database:
        yield database


@contextmanager
def _postgres(config: PostgresConfig) -> Iterator[Database]:
    if config.mode == "local" and not Path(config.data_dir, "data").is_dir():
        raise UserError(f"storage.data_dir {config.data_dir}: there is no server yet; give the study's storage")
    with postgres.opened(config, create=False) as database:
        yield database


def _file(config: FileStorageConfig) -> Path:
    path = Path(config.path).resolve()
    if not path.is_file() or path.stat().st_size == 0:
        raise UserError(f"storage.path: {path} does not exist or is empty; give the study's tuning_id or storage.path")
    return path


EXISTING: dict[str, Any] = {"sqlite": _sqlite, "journal": _journal, "postgres": _postgres}
