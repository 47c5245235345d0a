"""Where Optuna keeps studies. A backend is a module with the functions that this package dispatches to."""

from contextlib import AbstractContextManager
from types import ModuleType

from optuna.storages import BaseStorage

from codes.errors import UserError
from codes.schema import StorageConfig
from codes.storage import sqlite

__all__ = ["BACKENDS", "exclusive", "named_errors", "open_storage"]

BACKENDS = {"sqlite": sqlite}


def open_storage(config: StorageConfig) -> BaseStorage:
    """The Optuna storage that ``config`` describes, with its tables made."""
    return _backend(config).open_storage(config)


def exclusive(config: StorageConfig, study_name: str) -> AbstractContextManager[None]:
    """Hold ``study_name`` for this process; raises ``UserError`` while another process holds it."""
    return _backend(config).exclusive(config, study_name)


def named_errors(config: StorageConfig) -> AbstractContextManager[None]:
    """Turn failures of the database inside into a ``UserError`` that names it."""
    return _backend(config).named_errors(config)


def _backend(config: StorageConfig) -> ModuleType:
    if config.backend not in BACKENDS:
        raise UserError(f"storage.backend must be one of {', '.join(BACKENDS)}, but is {config.backend!r}")
    return BACKENDS[config.backend]
