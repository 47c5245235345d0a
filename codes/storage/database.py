"""What every storage backend gives."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from optuna.storages import BaseStorage


@dataclass(frozen=True)
class Database:
    """An open storage.

    ``claiming(study_name)`` is a lock with one holder at a time over all processes and hosts that use the database.
    It is not reentrant, and free again when its holder dies. ``address`` is for the screen, without a password.
    ``of_one_host``: no other host can use it.
    """

    storage: BaseStorage
    claiming: Callable[[str], AbstractContextManager[None]]
    address: str
    of_one_host: bool = False


def root_of(error: BaseException) -> str:
    """The database's own words, in one line."""
    return root_of(error.__cause__) if error.__cause__ is not None else " ".join(str(error).split())
