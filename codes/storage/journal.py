"""Studies in Optuna's journal: a log file that coordinators of several hosts append to."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from filelock import FileLock
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.storages.journal._file import BaseJournalFileLock

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
    try:
        return JournalStorage(JournalFileBackend(str(path), lock_obj=SystemLock(lock_path(path, "append"))))
    except (ValueError, KeyError, TypeError) as error:  # its lines are not JSON, or not Optuna's
        raise UserError(f"storage.path {path}: is not a journal of Optuna ({error})") from error
