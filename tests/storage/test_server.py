"""The private PostgreSQL server: made, shared, taken over, stopped; and what is in its way."""

import os
import shutil
import socket
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import optuna
import psycopg2
import pytest

from codes.errors import UserError
from codes.storage import binaries as programs
from codes.storage import opened, serving
from tests.command import ROOT
from tests.storage import clients
from tests.storage.conftest import copy, lasting_port, local_config, postmaster, server_of

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="runs the server as somebody else, as only root must")


def content(folder):
    """Every file's bytes, but for the locks and the log."""
    paths = sorted(path for path in Path(folder).rglob("*") if path.is_file() and path.name not in ("users", "change"))
    return {path: path.read_bytes() for path in paths if path.name != "server.log"}


def users_of(config, number):
    """Other processes that have the storage open, and the event that ends each."""
    users = []
    for _ in range(number):
        ready, finish = clients.processes.Event(), clients.processes.Event()
        users.append((clients.started(clients.use, config, ready, finish), ready, finish))
    assert all(ready.wait(60) for _, ready, _ in users)
    return [(process, finish) for process, _, finish in users]


def test_it_is_private(local):
    folder = Path(local.data_dir)
    assert stat.S_IMODE((folder / "password").stat().st_mode) == 0o600
    assert stat.S_IMODE((folder / "data").stat().st_mode) == 0o700
    assert os.geteuid() != 0 or (folder / "data").stat().st_uid != 0
    settings = server_of(local).connection()
    for host in ("127.0.0.1", str(folder / "data")):
        with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
            psycopg2.connect(**{**settings, "host": host, "password": "guess"}, dbname="postgres")
    with psycopg2.connect(**settings, dbname="postgres") as connection, connection.cursor() as cursor:
        cursor.execute("SHOW listen_addresses")
        assert cursor.fetchone() == ("127.0.0.1",)
    connection.close()


def test_started_at_the_same_instant_shared_and_stopped_by_the_last(fresh):
    (first, end_first), (second, end_second) = users_of(fresh, 2)
    server = postmaster(fresh)
    end_first.set()
    clients.ended(first)
    assert postmaster(fresh) == server
    end_second.set()
    clients.ended(second)
    assert postmaster(fresh) is None


def test_kept_open_it_is_started_once(fresh):
    """As a fine study does, which reads another one first."""
    with serving(fresh):
        for _ in range(2):
            with opened(fresh):
                pass
    assert (Path(fresh.data_dir) / "server.log").read_text().count("ready to accept connections") == 2  # the template
    assert postmaster(fresh) is None


def test_a_killed_coordinator_leaves_it_to_the_next(fresh):
    ((user, _),) = users_of(fresh, 1)
    server = postmaster(fresh)
    user.kill()
    user.join()
    with opened(fresh) as database:
        assert postmaster(fresh) == server
        assert optuna.get_all_study_names(database.storage) == ["s"]
    assert postmaster(fresh) is None


@AS_ROOT  # else PostgreSQL itself refuses: the process is of its own account
def test_a_stale_process_file_is_no_obstacle(fresh):
    """Its number belongs to another process by now: to us."""
    pid_file = Path(fresh.data_dir) / "data/postmaster.pid"
    pid_file.write_text(f"{os.getpid()}\n{fresh.data_dir}/data\n0\n5432\n\nlocalhost\n0 0\nready\n")
    shutil.chown(pid_file, pid_file.parent.stat().st_uid, pid_file.parent.stat().st_gid)
    pid_file.chmod(0o600)
    with opened(fresh):
        assert postmaster(fresh) != os.getpid()


def test_a_process_file_that_names_another_server(fresh, foreign):
    """As after a restart of the host: that server is not to be waited for, and not to be stopped in place of ours."""
    other = postmaster(foreign.config)
    pid_file = Path(fresh.data_dir) / "data/postmaster.pid"
    pid_file.write_text(f"{other}\n{fresh.data_dir}/data\n0\n5432\n\nlocalhost\n0 0\nready\n")
    with pytest.raises(UserError, match=rf"PostgreSQL does not start: .*postmaster.* {other}"), opened(fresh):
        pass
    assert postmaster(foreign.config) == other
    with foreign.running():  # still
        assert postmaster(foreign.config) == other


def test_a_process_file_that_is_none(fresh):
    pid_file = Path(fresh.data_dir) / "data/postmaster.pid"
    pid_file.write_text("nonsense\n")
    with pytest.raises(UserError, match=r"PostgreSQL does not start: .*bogus data in lock file"), opened(fresh):
        pass


@pytest.mark.parametrize(
    ("variable", "value"),
    [("PGHOSTADDR", "192.0.2.1"), ("PGSSLMODE", "verify-full"), ("PGGSSENCMODE", "require"), ("PGSERVICE", "theirs")],
)
def test_settings_of_other_servers_do_not_count(fresh, monkeypatch, variable, value):
    monkeypatch.setenv(variable, value)
    with opened(fresh):
        assert variable not in os.environ
    assert os.environ[variable] == value


def test_keep_running(fresh):
    with opened(replace(fresh, keep_running=True)):
        server = postmaster(fresh)
    assert postmaster(fresh) == server
    with opened(fresh):
        assert postmaster(fresh) == server
    assert postmaster(fresh) is None


def test_a_system_without_proc(fresh, tmp_path, monkeypatch):
    """As macOS, whose `ps` takes all behind the first = of a word for the heading of one column."""
    ps = tmp_path / "ps"
    ps.write_text(f'#!/bin/sh\ncase "$*" in *=,*) echo "a heading\nSs"; exit;; esac\nexec {shutil.which("ps")} "$@"\n')
    ps.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr("codes.storage.server.PROCESSES", tmp_path)
    with opened(fresh):
        server = postmaster(fresh)
        with opened(fresh):
            assert postmaster(fresh) == server
    assert postmaster(fresh) is None


@pytest.mark.parametrize("name", ["x" * 100, "a, b", 'it\'s "odd" $HOME ü'])
def test_long_and_odd_folders(template, open_folder, name):
    """A socket's address has 103 bytes at most on every system, and no comma: without one there is the loopback."""
    folder = open_folder / name
    copy(template, folder)
    config = replace(local_config(template), data_dir=str(folder))
    with opened(config):
        host = server_of(config).connection()["host"]
        assert host == (str(folder / "data") if "odd" in name else "127.0.0.1")


def test_an_address_that_only_linux_has_room_for(template, open_folder):
    """PostgreSQL starts on macOS too: no socket has an address of 104 bytes."""
    port = lasting_port()
    folder = open_folder / "".ljust(103 - len(str(open_folder / f"data/.s.PGSQL.{port}")), "y")
    copy(template, folder)
    config = replace(local_config(folder), port=port)
    with opened(config):
        assert len(str(folder / f"data/.s.PGSQL.{port}")) == 104
        assert server_of(config).connection()["host"] == "127.0.0.1"


def test_a_port_in_use(fresh):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"storage.port {port}: Address already in use; leave it out"):
            server_of(replace(fresh, port=port)).ensure()


def test_of_another_version(fresh):
    version = Path(fresh.data_dir) / "data/PG_VERSION"
    version.write_text("9\n")
    before = content(fresh.data_dir)
    with pytest.raises(UserError, match=r"storage.data_dir .*: is of PostgreSQL 9, found \d+ in "), opened(fresh):
        pass
    assert content(fresh.data_dir) == before


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder that can hold no file")
def test_a_folder_that_cannot_be_made():
    with pytest.raises(UserError, match=r"storage.data_dir /proc/x cannot be made"), opened(local_config("/proc/x")):
        pass


def test_not_a_cluster(tmp_path, open_folder):
    folder = open_folder / "other"
    (folder / "data").mkdir(parents=True)
    (folder / "data/notes.txt").write_text("mine")
    with pytest.raises(UserError, match="is no PostgreSQL cluster"), opened(local_config(folder)):
        pass
    assert (folder / "data/notes.txt").read_text() == "mine"


def test_the_password_is_lost_or_wrong(fresh):
    password = Path(fresh.data_dir) / "password"
    kept = password.read_text()
    password.unlink()
    with pytest.raises(UserError, match="the file password is missing"), opened(fresh):
        pass
    password.touch()
    with pytest.raises(UserError, match="the file password is empty"), opened(fresh):
        pass
    password.write_text("another")
    with pytest.raises(UserError, match=r"refuses the password in .*password"), opened(fresh):
        pass
    password.write_text(kept)
    with opened(fresh):
        pass
    assert postmaster(fresh) is None


@AS_ROOT
def test_a_folder_for_root_alone(binaries, tmp_path):
    with (
        pytest.raises(UserError, match=r"may not enter .*set storage.data_dir to a folder that everybody may enter"),
        opened(local_config(tmp_path / "postgres")),
    ):
        pass
    assert not (tmp_path / "postgres/data").exists()


@AS_ROOT
def test_programs_for_root_alone(binaries, tmp_path, fresh):
    for name in programs.PROGRAMS:
        (tmp_path / name).symlink_to(binaries / name)
    with pytest.raises(UserError, match=rf"storage.database_folder: .*may not run {tmp_path}/postgres; install"):
        server_of(replace(fresh, database_folder=str(tmp_path))).ensure()


def test_no_programs(tmp_path, monkeypatch, fresh):
    with pytest.raises(UserError, match=r"storage.database_folder .*: has not the programs initdb"):
        server_of(replace(fresh, database_folder=str(tmp_path))).ensure()
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(programs, "USUAL", ())
    monkeypatch.setattr(programs, "WHEEL", "no_such_wheel")
    with pytest.raises(UserError, match=r"finds no PostgreSQL server on this host; install .*codes\[postgres\]"):
        programs.find_binaries(None, None, "")


@pytest.mark.slow
def test_no_room_on_the_disk(binaries, open_folder):
    """Making a server on 8 MB fails with one message, and leaves nothing half made."""
    folder = open_folder / "small"
    folder.mkdir()
    code = (
        "import sys; from codes.errors import UserError\n"
        "from codes.storage import opened; from tests.storage.conftest import local_config\n"
        "try:\n  opened(local_config(sys.argv[1])).__enter__()\n"
        "except UserError as error:\n  print(error)\n"
        "import os; print(sorted(os.listdir(sys.argv[1])))"
    )
    script = 'mount -t tmpfs -o size=8m,mode=755 tmpfs "$1" && exec "$2" -c "$3" "$1"'
    command = ["unshare", "--map-root-user", "--mount", "sh", "-c", script, "sh", str(folder), sys.executable, code]
    if os.geteuid() == 0:
        command.remove("--map-root-user")  # the server needs its own account
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    if "unshare" in done.stderr:
        pytest.skip("this machine allows no mount namespaces")
    assert "storage.data_dir" in done.stdout and "No space left on device" in done.stdout, done
    assert "data" not in eval(done.stdout.splitlines()[-1])
