"""Studies in Optuna's journal: a log file that coordinators of several hosts append to."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from filelock import FileLock
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.storages.journal._file import BaseJournalFileLock, get_lock_file

from codes.errors import UserError
from codes.schema import FileStorageConfig
from codes.storage.database import Database
from codes.storage.locks import claiming, lock_path


class SystemLock(BaseJournalFileLock):
    """The operating system's lock on a file, free when its holder dies; Optuna's own stay for half a minute."""

    def __init__(self, path: Path) -> None:
        self.lock = FileLock(path, thread_local=False)

    def acquire(self) -> bool:
        self.lock.acquire()
        return True

    def release(self) -> None:
        self.lock.release()


class Journal(JournalFileBackend):
    """Optuna's log file, but for a last line that a kill or a full disk left unfinished: the next writer drops it."""

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        with get_lock_file(self._lock):
            _drop_unfinished_line(Path(self._file_path))
            super().append_logs(logs)


@contextmanager
def opened(config: FileStorageConfig) -> Iterator[Database]:
    """The journal at ``config.path``; made when there is none.

    Raises ``UserError`` naming the file when it cannot be read or written, or is no journal.
    """
    path = Path(config.path).resolve()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield Database(_storage(path), partial(claiming, path), str(config.path))
    except OSError as error:
        raise UserError(f"storage.path {path}: {error.strerror or error}") from error


def _storage(path: Path) -> JournalStorage:
    _check_file(path)
    try:
        return JournalStorage(Journal(str(path), lock_obj=SystemLock(lock_path(path, "append"))))
    except (ValueError, KeyError, TypeError) as error:  # its lines are not JSON, or not Optuna's
        raise UserError(f"storage.path {path}: is damaged ({error})") from error


def _check_file(path: Path) -> None:
    """Refuse a file of something else before anything is written to it."""
    if not path.exists():
        return
    with open(path, "rb") as file:
        first = file.readline()
    try:
        if first and "op_code" not in json.loads(first):
            raise ValueError
    except (ValueError, TypeError):
        raise UserError(f"storage.path {path}: is not a journal of Optuna; choose another path") from None


def _drop_unfinished_line(path: Path) -> None:
    with open(path, "rb+") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(size - 1, 0))
        if file.read(1) not in (b"", b"\n"):
            file.seek(0)
            file.truncate(file.read().rfind(b"\n") + 1)
