"""Locks between all coordinators that share a PostgreSQL database."""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy

from codes.storage.patience import FAILURES, Patience


class Claims:
    """Advisory locks of the server, held by one connection of their own: if it or its process dies, they are free."""

    def __init__(self, engine: sqlalchemy.Engine, scope: str, patiently: Patience) -> None:
        self.engine, self.scope, self.patiently = engine, scope, patiently
        self.here = threading.Lock()  # between the threads of this process, which share the connection

    @contextmanager
    def claiming(self, kind: str, name: str) -> Iterator[None]:
        """Hold the lock of ``name``; waits for its holder."""
        key = lock_key(self.scope, kind, name)
        with self.here:
            connection = self.patiently(lambda: self._lock(key))
            try:
                yield
            finally:
                _unlock(connection, key)

    def close(self) -> None:
        self.engine.dispose()

    def _lock(self, key: int) -> sqlalchemy.Connection:
        connection = self.engine.connect()
        try:
            connection.execute(sqlalchemy.text("SELECT pg_advisory_lock(:key)"), {"key": key})
        except BaseException:  # Ctrl-C too: whether the lock is ours is not known
            _drop(connection)
            raise
        return connection


def lock_key(*names: str) -> int:
    """The same signed 64-bit number for the same names, on every host."""
    digest = hashlib.blake2b("\0".join(names).encode(errors="surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


def _unlock(connection: sqlalchemy.Connection, key: int) -> None:
    try:
        connection.execute(sqlalchemy.text("SELECT pg_advisory_unlock(:key)"), {"key": key})
    except FAILURES:  # the connection is gone, and its locks with it
        _drop(connection)
    except BaseException:
        _drop(connection)
        raise
    else:
        connection.close()


def _drop(connection: sqlalchemy.Connection) -> None:
    """End the connection itself, instead of handing it back to the pool."""
    connection.invalidate()
    connection.close()
