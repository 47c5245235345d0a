"""Connections to a PostgreSQL database."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any

import psycopg2
from psycopg2 import sql
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor

from codes import secrets
from codes.errors import UserError
from codes.schema import PostgresConfig

NAME_LIMIT = 63  # bytes, of a PostgreSQL identifier; a longer one is cut without a word
# A host that is cut off is noticed within two minutes by either end: here a call fails, there a lock is freed.
KEEPALIVES = {"keepalives_idle": 60, "keepalives_interval": 15, "keepalives_count": 4, "tcp_user_timeout": 120_000}
SESSION = "SET tcp_keepalives_idle = 60; SET tcp_keepalives_interval = 15; SET tcp_keepalives_count = 4"
UNANSWERED = "; SET tcp_user_timeout = 120000"  # since PostgreSQL 12; keepalives do not count for what was sent already


def remote(config: PostgresConfig) -> dict[str, Any]:
    """What libpq is told of a server that others look after; what is left out it takes from PGHOST, PGUSER, ..."""
    return {"host": config.host, "port": config.port, "user": config.user, "sslmode": config.sslmode}


class Connect:
    """Opens connections to ``config.database`` of the server that ``where()`` tells; called by SQLAlchemy's pool.

    ``storage.password`` is used only where libpq finds none in PGPASSWORD or ``~/.pgpass``.
    """

    def __init__(self, config: PostgresConfig, where: Callable[[], Mapping[str, Any]]) -> None:
        self.where = where
        self.database, self.schema = config.database, config.schema
        self.timeout = config.connect_timeout
        self.given = secrets.given() if config.password is None else config.password
        self.known: dict[str, Any] = {"host": config.host, "port": config.port, "user": config.user}
        for key in ("database", "schema"):
            _check_name(f"storage.{key}", getattr(config, key))

    def __call__(self, database: str | None = None) -> Connection:
        """A new connection; raises ``psycopg2.OperationalError``."""
        connection = self._log_in(database or self.database)
        self.known = {name: getattr(connection.info, name) for name in self.known}
        connection.autocommit = True  # settings that no rollback undoes
        with connection.cursor() as cursor:
            cursor.execute(SESSION + (UNANSWERED if connection.server_version >= 120_000 else ""))
            if self.schema is not None:
                cursor.execute(sql.SQL("SET search_path TO {}").format(sql.Identifier(self.schema)))
        connection.autocommit = False
        return connection

    @contextmanager
    def session(self, database: str | None = None) -> Iterator[Cursor]:
        """A cursor of a connection of its own, each statement of which is a transaction."""
        with closing(self(database)) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                yield cursor

    def address(self) -> str:
        """Where it leads, for messages; without a password."""
        host = self.known["host"] or "localhost"
        place = f"{'127.0.0.1' if host.startswith('/') else host}:{self.known['port'] or 5432}"
        return f"postgresql://{self.user()}@{place}/{self.database}".replace("//@", "//")

    def user(self) -> str:
        """Whom the server knows us as; empty before the first connection if the config does not say."""
        return self.known["user"] or ""

    def _log_in(self, database: str) -> Connection:
        first = {"password": secrets.from_environment()}
        settings = {"dbname": database, "connect_timeout": self.timeout, **KEEPALIVES, **first, **self.where()}
        settings = {name: value for name, value in settings.items() if value is not None}
        try:
            return psycopg2.connect(**settings)
        except psycopg2.OperationalError as error:
            if self.given is None or "password" not in str(error):
                raise
        return psycopg2.connect(**{**settings, "password": self.given})


def _check_name(key: str, name: str | None) -> None:
    if name is None:
        return
    size = len(name.encode(errors="surrogatepass"))
    if not 0 < size <= NAME_LIMIT or "\0" in name:
        raise UserError(f"{key}: must have 1 to {NAME_LIMIT} bytes, and no NUL, but is {name!r} ({size} bytes)")
    if name == "$user":  # in quotes too it means a schema that is called as the user is
        raise UserError(f"{key}: must be a name, but is {name!r}; leave it out for the server's choice")
