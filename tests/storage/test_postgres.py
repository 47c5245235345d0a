"""PostgreSQL: somebody else's server, entered with the least rights and left in the middle of a study."""

import re
import time
from contextlib import closing, contextmanager
from dataclasses import replace

import optuna
import psycopg2
import pytest
import sqlalchemy
from optuna.trial import TrialState
from psycopg2 import sql

from codes.errors import UserError
from codes.storage import existing, opened, patience
from codes.storage.connect import Connect, remote
from codes.storage.patience import Patience
from codes.tuning import fidelity
from codes.tuning.plan import plan_study
from tests.storage.conftest import administrator, remote_config
from tests.storage.proxy import Proxy
from tests.tuning.studies import composed

ODD = "we\"ird; DROP DATABASE codes; --'%s{} ü"


def password(server):
    return server.connection()["password"]


@pytest.fixture
def config(foreign, request):
    """A guest's configuration, with a database of the test's own."""
    return remote_config(foreign, password=password(foreign), database=request.node.name)


@contextmanager
def guest(server, **changes):
    """A role that may only log in, and its configuration."""
    with administrator(server) as cursor:
        cursor.execute("DROP ROLE IF EXISTS guest")
        cursor.execute("CREATE ROLE guest LOGIN PASSWORD 'sesame'")
        yield cursor, remote_config(server, user="guest", password="sesame", **changes)
        cursor.execute("DROP OWNED BY guest")


def study_in(config):
    with opened(config) as database:
        return optuna.create_study(study_name=ODD, storage=database.storage, load_if_exists=True)._study_id


def test_odd_names_are_names(foreign, config):
    odd = replace(config, database=ODD, schema=f"{ODD}2")
    study_in(odd)
    with closing(psycopg2.connect(**foreign.connection(), dbname=ODD)) as connection, connection.cursor() as cursor:
        cursor.execute(sql.SQL("SELECT study_name FROM {}.studies").format(sql.Identifier(f"{ODD}2")))
        assert cursor.fetchall() == [(ODD,)]
    with pytest.raises(UserError, match=r"storage.schema: .*63 bytes"), opened(replace(odd, schema="ü" * 32)):
        pass
    with (
        pytest.raises(UserError, match=r"storage.schema: must be a name, but is '\$user'"),
        opened(replace(odd, schema="$user")),
    ):
        pass


def test_where_the_password_comes_from(foreign, config, monkeypatch, tmp_path):
    secret = password(foreign)
    kept = tmp_path / "pgpass"
    kept.write_text(f"127.0.0.1:{config.port}:*:{config.user}:{secret}\n")
    kept.chmod(0o600)
    monkeypatch.setenv("PGPASSFILE", str(tmp_path / "none"))
    study_in(config)
    with pytest.raises(UserError, match="no password supplied"):
        study_in(replace(config, password=None))
    with pytest.raises(UserError, match="password authentication failed") as refused:
        study_in(replace(config, password="not this one"))
    assert "not this one" not in str(refused.value)
    monkeypatch.setenv("PGPASSFILE", str(kept))
    study_in(replace(config, password=None))
    study_in(replace(config, password="not this one"))
    monkeypatch.setenv("PGPASSWORD", secret)
    monkeypatch.setenv("PGPASSFILE", str(tmp_path / "none"))
    study_in(replace(config, password=None))


def test_the_environment_chooses_sslmode_where_the_config_does_not(config, monkeypatch):
    monkeypatch.setenv("PGSSLMODE", "require")
    with pytest.raises(UserError, match="does not support SSL"):
        study_in(config)
    study_in(replace(config, sslmode="prefer"))


@pytest.mark.parametrize("missing", ["database", "database and postgres", "schema", "tables"])
def test_missing_rights_name_the_lines_that_grant_them(foreign, missing):
    """What the message asks the administrator for is all that is needed."""
    changes = {"database": f"guest {missing}", "schema": "a b" if missing == "schema" else None}
    with guest(foreign, **changes) as (cursor, config):
        cursor.execute(f'DROP DATABASE IF EXISTS "{config.database}" WITH (FORCE)')
        if "database" not in missing:
            cursor.execute(f'CREATE DATABASE "{config.database}"')
        if "postgres" in missing:
            cursor.execute("REVOKE CONNECT ON DATABASE postgres FROM PUBLIC")
        with pytest.raises(UserError, match="administrator") as refused:
            study_in(config)
        with administrator(foreign, "postgres" if "database" in missing else config.database) as there:
            there.execute(str(refused.value).splitlines()[-1])
        study_in(config)
        cursor.execute("GRANT CONNECT ON DATABASE postgres TO PUBLIC")
        cursor.execute(f'DROP DATABASE "{config.database}" WITH (FORCE)')


def test_tables_of_somebody_else(foreign, config):
    """What the message asks for is enough for a study."""
    study_in(config)
    with guest(foreign, database=config.database) as (cursor, guests):
        with pytest.raises(UserError, match="may not use the tables of another role") as refused:
            study_in(guests)
        with administrator(foreign, config.database) as there:
            there.execute(str(refused.value).splitlines()[-1])
        with opened(guests) as database:
            optuna.create_study(storage=database.storage).optimize(lambda trial: trial.suggest_float("x", 0, 1), 1)
        cursor.execute(f"DROP DATABASE {config.database} WITH (FORCE)")


def test_who_only_reads_makes_nothing(foreign, config):
    """A database, a schema and tables that are not there are an error, not an empty storage."""
    database = config.database
    for says in (f'database "{database}" does not exist', "there are no studies in this database"):
        with pytest.raises(UserError, match=says), existing(replace(config, schema="typo")):
            pass
        with administrator(foreign) as cursor:
            cursor.execute("SELECT count(*) FROM pg_database WHERE datname = %s", (database,))
            assert cursor.fetchone() == ((1,) if "studies" in says else (0,))
            if "exist" in says:
                cursor.execute(f"CREATE DATABASE {database}")
    with administrator(foreign, database) as cursor:
        cursor.execute("SELECT to_regnamespace('typo')")
        assert cursor.fetchone() == (None,)
    study_in(config)
    with guest(foreign, database=database) as (cursor, reader):
        with administrator(foreign, database) as there:
            there.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO guest")
        with existing(reader) as opened_again:
            assert optuna.get_all_study_names(opened_again.storage) == [ODD]
        cursor.execute(f"DROP DATABASE {database} WITH (FORCE)")


def test_an_unreachable_server_is_named(config):
    with pytest.raises(UserError, match=r"storage postgresql://codes@127.0.0.1:1/.*refused"):
        study_in(replace(config, port=1))


def test_too_few_connections_are_left(foreign):
    """A role without rights, which is not told what the others are, counts them all the same."""
    with (
        guest(foreign, database="postgres") as (cursor, config),
        closing(psycopg2.connect(**foreign.connection(), dbname="postgres")),
    ):
        cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'")
        (there,) = cursor.fetchone()
        with pytest.raises(
            UserError, match=rf"storage .*: {there} of 97 connections are taken, .* up to 97; .*pool_size"
        ):
            study_in(replace(config, pool_size=96))
    with pytest.raises(UserError, match=r"storage.pool_size: must be at least 2"):
        study_in(replace(config, pool_size=1))


def test_the_smallest_pool_is_enough(config):
    study_in(replace(config, pool_size=2))


def test_of_another_optuna_version(foreign, config):
    study_in(config)
    with administrator(foreign, config.database) as cursor:
        cursor.execute("UPDATE alembic_version SET version_num = 'v9.9.9.a'")
    with pytest.raises(UserError, match="no longer compatible"):
        study_in(config)


@pytest.mark.parametrize("step", ["ask", "take", "tell", "suggest", "report", "note"])
def test_a_connection_that_breaks_after_the_commit_changes_nothing(foreign, config, step):
    """The server has done it, the client cannot know: it is not done twice, and not given up."""
    proxy = Proxy(config.port)
    with opened(replace(config, port=proxy.port, sslmode="disable", database="worst moment")) as database:
        study = optuna.create_study(study_name=step, storage=database.storage)
        if step == "take":
            study.enqueue_trial({"x": 0.25})
        does = {
            "suggest": lambda: trial.suggest_float("x", 0, 1),
            "report": lambda: trial.report(1.0, 0),
            "note": lambda: trial.set_user_attr("claim", "mine"),
            "tell": lambda: study.tell(trial, 1.0),
        }
        proxy.armed = step in ("ask", "take")
        trial = study.ask()
        proxy.armed = step not in ("ask", "take")
        for name in ("suggest", "report", "note", "tell"):
            proxy.armed = step == name
            does[name]()
        assert proxy.broken == 1
        (only,) = study.trials
        assert (only.state, only.value, only.intermediate_values) == (TrialState.COMPLETE, 1.0, {0: 1.0})
        assert only.user_attrs == {"claim": "mine"}
        assert ("x" in only.params) and (step != "take" or only.params["x"] == 0.25)


def test_a_study_is_made_and_deleted_once_when_the_connection_breaks_after_the_commit(foreign, config, tmp_path):
    proxy, plan = Proxy(config.port), plan_study(composed(tmp_path))
    with opened(replace(config, port=proxy.port, sslmode="disable", database="worst moment")) as database:
        database.storage.get_all_studies()  # a connection that is there
        proxy.armed = True
        made = fidelity._load(plan, database)
        proxy.armed = True
        database.storage.delete_study(made._study_id)
        assert proxy.broken == 2 and plan.name not in optuna.get_all_study_names(database.storage)
        with pytest.raises(KeyError):
            database.storage.delete_study(made._study_id)


def test_what_is_waited_for_is_said(foreign, config, caplog):
    """A server that is away, and one that takes no writes, as a standby until it has taken over."""
    study_in(config)
    ports = [config.port]
    connect = Connect(config, lambda: {**remote(config), "password": config.password, "port": ports[-1]})
    engine = sqlalchemy.create_engine("postgresql+psycopg2://", creator=connect, pool_pre_ping=True)

    def vanish():
        with engine.connect() as connection:
            pid = connection.execute(sqlalchemy.text("SELECT pg_backend_pid()")).scalar()
        with administrator(foreign) as cursor:
            cursor.execute("SELECT pg_terminate_backend(%s, 10000)", (pid,))
        ports.append(1)

    def only_reads(answer):
        with administrator(foreign) as cursor:
            cursor.execute(f"ALTER DATABASE {config.database} SET default_transaction_read_only = {answer}")
        engine.dispose()  # it counts for new connections

    def write():
        with engine.begin() as connection:
            connection.execute(sqlalchemy.text("CREATE TABLE new (x int)"))

    vanish()
    Patience(60, lambda: ports.append(config.port))(lambda: engine.connect().close())
    only_reads("on")
    Patience(60, lambda: only_reads("off"))(write)
    engine.dispose()
    away, reading = (record.getMessage() for record in caplog.records if record.name == patience.__name__)
    assert re.search(r"for 60 s \(.*refused.*\)", away)
    assert reading.endswith("for 60 s (cannot execute CREATE TABLE in a read-only transaction)")
    assert "does not answer" not in reading


def test_what_the_server_refuses_is_not_waited_for(foreign, config, caplog):
    with (
        pytest.raises(UserError, match='relation "trials" does not exist'),
        opened(replace(config, retry_for=1)) as database,
    ):
        study = optuna.create_study(storage=database.storage)
        with administrator(foreign, config.database) as cursor:
            cursor.execute("DROP TABLE trials CASCADE")
        study.ask()
    assert not [record for record in caplog.records if record.name == patience.__name__]


def test_a_server_that_stays_away_is_waited_for_once(config):
    """What is still to be told at the end of a study would each wait as long again."""
    study_in(config)
    tries = []
    ports = {"now": 1}
    connect = Connect(config, lambda: {**remote(config), "password": config.password, "port": ports["now"]})
    engine = sqlalchemy.create_engine("postgresql+psycopg2://", creator=connect)
    patiently = Patience(0.5, lambda: tries.append(ports["now"]))

    def reach():
        tries.clear()
        patiently(lambda: engine.connect().close())

    with pytest.raises(sqlalchemy.exc.OperationalError):
        reach()
    assert tries
    with pytest.raises(sqlalchemy.exc.OperationalError):
        reach()
    assert not tries
    ports["now"] = config.port
    reach()
    engine.dispose()
    ports["now"] = 1
    with pytest.raises(sqlalchemy.exc.OperationalError):
        reach()
    assert tries


def test_the_time_to_wait_counts_from_the_first_failure(config):
    """It takes two minutes until a call fails whose network is cut without a word."""
    study_in(config)
    ports, begin = [1], time.monotonic()
    connect = Connect(config, lambda: {**remote(config), "password": config.password, "port": ports[-1]})
    engine = sqlalchemy.create_engine("postgresql+psycopg2://", creator=connect)

    def reach():
        while time.monotonic() <= begin + 1:
            pass
        engine.connect().close()

    Patience(1, lambda: ports.append(config.port))(reach)
    engine.dispose()


def test_what_ends_the_connection_of_a_vanished_host(config):
    """Its claim would be kept for hours by the system's defaults."""
    connect = Connect(config, lambda: {**remote(config), "password": config.password})
    with connect.session("postgres") as cursor:
        cursor.execute("SHOW tcp_keepalives_idle")
        assert cursor.fetchone() == ("60",)
        cursor.execute("SHOW tcp_user_timeout")
        assert cursor.fetchone() == ("120000",), "also where it was sent something just before"
