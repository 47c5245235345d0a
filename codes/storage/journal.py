"""Studies in Optuna's journal: a log file that coordinators of several hosts append to."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any

from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.storages.journal._file import BaseJournalFileLock, get_lock_file
from optuna.storages.journal._storage import JournalOperation

from codes.errors import UserError
from codes.schema import FileStorageConfig
from codes.storage.database import Database
from codes.storage.locks import claiming, lock_path

# What is on disk before the coordinator goes on; all that was written before it is then on disk too.
DURABLE = {
    JournalOperation.CREATE_STUDY,
    JournalOperation.DELETE_STUDY,
    JournalOperation.SET_STUDY_USER_ATTR,
    JournalOperation.SET_STUDY_SYSTEM_ATTR,
    JournalOperation.CREATE_TRIAL,
    JournalOperation.SET_TRIAL_STATE_VALUES,
}


class SystemLock(BaseJournalFileLock):
    """The operating system's lock on a file, free when its holder dies; Optuna's own stay for half a minute."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def acquire(self) -> bool:
        """Wait for the lock."""
        import fcntl  # for Unix only

        self.file = open(self.path, "ab")  # noqa: SIM115
        fcntl.flock(self.file, fcntl.LOCK_EX)
        return True

    def release(self) -> None:
        """Closing the file lets the lock go."""
        self.file.close()


class Journal(JournalFileBackend):
    """Optuna's log file, with two differences.

    A last line that a kill or a full disk left unfinished is dropped by the next writer. Parameters, reports and
    attributes of a trial that runs do not wait for the disk: a kill loses none of them, a power cut may.
    """

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        lines = "".join(json.dumps(entry, separators=(",", ":")) + "\n" for entry in logs)
        with get_lock_file(self._lock), open(self._file_path, "rb+") as file:
            _drop_unfinished_line(file)
            file.seek(0, os.SEEK_END)
            file.write(lines.encode())
            file.flush()
            if any(entry["op_code"] in DURABLE for entry in logs):
                os.fsync(file.fileno())


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


def _drop_unfinished_line(file: IO[bytes]) -> None:
    size = file.seek(0, os.SEEK_END)
    file.seek(max(size - 1, 0))
    if file.read(1) not in (b"", b"\n"):
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)
