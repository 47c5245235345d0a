"""Studies in PostgreSQL: a private server on this host (``mode: local``) or one that others look after (``remote``)."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import partial

import psycopg2
import sqlalchemy
from optuna.exceptions import StorageInternalError
from psycopg2 import errors, sql

from codes import limits
from codes.errors import UserError
from codes.schema import PostgresConfig, StorageConfig
from codes.storage.claims import Claims
from codes.storage.connect import Connect, remote
from codes.storage.database import Database, root_of
from codes.storage.patience import Patience
from codes.storage.patient import PatientStorage

# Connections that may be made, and those of others. Who may not see what others do sees whose they are, and where.
ROOM = """
    SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
        - coalesce(current_setting('reserved_connections', true)::int, 0),
        (SELECT count(*) - 1 FROM pg_stat_activity WHERE usesysid IS NOT NULL AND datid IS NOT NULL
            AND coalesce(backend_type, 'client backend') = 'client backend')
"""
DRIVER = "postgresql+psycopg2://"  # no address: `Connect` knows it, so no URL can show a password


@contextmanager
def opened(config: PostgresConfig, create: bool = True) -> Iterator[Database]:
    """The database that ``config`` describes; made, with its schema and tables, where that is allowed.

    Without ``create`` nothing is made, and what is missing is an error.

    Raises ``UserError`` naming the server when it cannot be reached or entered, lacks rights or room, or stays away
    for longer than ``config.retry_for`` in mid-study.
    """
    if config.mode == "remote":
        with _opened(config, Connect(config, partial(remote, config)), lambda: None, create) as database:
            yield database
        return
    from codes.storage.server import Server  # for Unix only

    server = Server(config)
    with server.running(), _opened(config, Connect(config, server.connection), server.ensure, create) as database:
        yield database


def serving(config: StorageConfig) -> AbstractContextManager[None]:
    """Keep a private server running inside, however often it is opened there; of other storages nothing runs."""
    if not isinstance(config, PostgresConfig) or config.mode != "local":
        return nullcontext()
    limits.check(config, "storage")
    from codes.storage.server import Server  # for Unix only

    return Server(config).running()


@contextmanager
def _opened(config: PostgresConfig, connect: Connect, revive: Callable[[], None], create: bool) -> Iterator[Database]:
    with _named_errors(connect):
        if create:
            _make_database(connect)
        _check_room(config, connect)
        patiently = Patience(config.retry_for, revive)
        claims = Claims(_engine(connect, 1, config.retry_for), config.schema or "", patiently)
        try:
            with claims.claiming("", "tables"):  # two processes that create the same tables crash each other
                storage = _storage(config, connect, patiently, create)
            try:
                claiming = partial(claims.claiming, "study")
                yield Database(storage, claiming, connect.address(), of_one_host=config.mode == "local")
            finally:
                storage.engine.dispose()
        finally:
            claims.close()


def _storage(config: PostgresConfig, connect: Connect, patiently: Patience, create: bool) -> PatientStorage:
    if create:
        _make_schema(connect)
    elif not _has_tables(connect):
        raise UserError(
            f"storage {connect.address()}: there are no studies in this database; "
            "give the study's storage.database and storage.schema"
        )
    settings = _engine_settings(connect, config.pool_size, config.retry_for)
    try:
        return PatientStorage(settings, patiently, create)
    except sqlalchemy.exc.ProgrammingError as error:
        if not isinstance(error.orig, errors.InsufficientPrivilege):
            raise
        request = f"GRANT USAGE, CREATE ON SCHEMA {_quoted(config.schema or 'public')} TO {_quoted(connect.user())};"
        raise _ask_for(connect, "may not make tables", request) from error
    except StorageInternalError as error:  # of the first look into tables that are there
        if not isinstance(getattr(error.__cause__, "orig", None), errors.InsufficientPrivilege):
            raise
        schema, user = _quoted(config.schema or "public"), _quoted(connect.user())
        request = (
            f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {user}; "
            f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA {schema} TO {user};"
        )
        raise _ask_for(connect, "may not use the tables of another role", request) from error
    except RuntimeError as error:
        raise UserError(f"storage {connect.address()}: {error}") from error


def _make_database(connect: Connect) -> None:
    """Make the database if it is missing."""
    with suppress(psycopg2.OperationalError):
        connect().close()
        return
    if not _is_missing(connect):
        _enter(connect)  # made by another coordinator just now, or another error than this, which it tells
        return
    with connect.session("postgres") as cursor:
        try:
            cursor.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(connect.database)))
        except (errors.DuplicateDatabase, errors.UniqueViolation):
            pass  # by another coordinator just now
        except errors.InsufficientPrivilege as error:
            raise _ask_for_database(connect) from error


def _enter(connect: Connect) -> None:
    """Raise what the server says; where it is that there is no such database, `postgres` is closed to us too."""
    try:
        connect().close()
    except psycopg2.OperationalError as error:
        if f'database "{connect.database}" does not exist' in str(error):
            raise _ask_for_database(connect) from error
        raise


def _is_missing(connect: Connect) -> bool:
    try:
        with connect.session("postgres") as cursor:
            cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (connect.database,))
            return cursor.fetchone() is None
    except psycopg2.OperationalError:
        return False


def _make_schema(connect: Connect) -> None:
    """Make the schema, if one is named and missing."""
    if connect.schema is None:
        return
    with connect.session() as cursor:
        cursor.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", (connect.schema,))
        if cursor.fetchone() is not None:
            return
        try:
            cursor.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(connect.schema)))
        except errors.InsufficientPrivilege as error:
            request = f"CREATE SCHEMA {_quoted(connect.schema)} AUTHORIZATION {_quoted(connect.user())};"
            raise _ask_for(connect, "there is no such schema, and it may not be made", request) from error


def _has_tables(connect: Connect) -> bool:
    """Whether Optuna's tables are there, with the two that it makes even where it is told to make none."""
    with connect.session() as cursor:
        cursor.execute("SELECT to_regclass('version_info'), to_regclass('alembic_version')")
        return None not in (cursor.fetchone() or (None,))


def _check_room(config: PostgresConfig, connect: Connect) -> None:
    """Refuse to start where the server has not enough connections left for this coordinator."""
    with connect.session() as cursor:
        cursor.execute(ROOM)
        allowed, taken = cursor.fetchone() or (0, 0)
    needed = config.pool_size + 1
    if taken + needed > allowed:
        raise UserError(
            f"storage {connect.address()}: {taken} of {allowed} connections are taken, and a coordinator takes up to "
            f"{needed}; set a smaller storage.pool_size, run fewer coordinators, or have max_connections raised"
        )


def _engine(connect: Connect, size: int, patience: float) -> sqlalchemy.Engine:
    settings = _engine_settings(connect, size, patience)
    return sqlalchemy.create_engine(DRIVER, isolation_level="AUTOCOMMIT", **settings)


def _engine_settings(connect: Connect, size: int, patience: float) -> dict[str, object]:
    """At most ``size`` connections; who waits for one waits at least as long as its holder may for the server."""
    wait = 2 * patience + 300
    return {
        "creator": connect,
        "pool_size": size,
        "max_overflow": 0,
        "pool_timeout": wait,
        "pool_pre_ping": True,
    }


@contextmanager
def _named_errors(connect: Connect) -> Iterator[None]:
    """Turn failures of the database inside into one ``UserError`` that names the server and the cause."""
    try:
        yield
    except (StorageInternalError, sqlalchemy.exc.SQLAlchemyError, psycopg2.Error) as error:
        raise UserError(f"storage {connect.address()}: {root_of(error)}") from error


def _ask_for(connect: Connect, problem: str, request: str) -> UserError:
    return UserError(f"storage {connect.address()}: {problem}; ask the server's administrator for\n    {request}")


def _ask_for_database(connect: Connect) -> UserError:
    owner = f" OWNER {_quoted(connect.user())}" if connect.user() else ""
    request = f"CREATE DATABASE {_quoted(connect.database)}{owner};"
    return _ask_for(connect, "there is no such database, and it may not be made", request)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
