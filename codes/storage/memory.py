"""Studies that end with their process: for tests."""

import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

from optuna.storages import InMemoryStorage

from codes.schema import StorageConfig
from codes.storage.database import Database


@contextmanager
def opened(config: StorageConfig) -> Iterator[Database]:
    """An empty storage, gone at the end."""
    locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)

    @contextmanager
    def claiming(study_name: str) -> Iterator[None]:
        with locks[study_name]:
            yield

    yield Database(InMemoryStorage(), claiming, "memory", of_one_host=True)
