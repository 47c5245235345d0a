"""Real PostgreSQL servers for the tests: a private one, and one that plays the part of somebody else's."""

import os
import random
import shutil
import socket
import tempfile
import uuid
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import psycopg2
import pytest
from hydra import compose, initialize_config_dir

from codes import resolvers, schema
from codes.errors import UserError
from codes.storage import settings
from codes.storage.binaries import find_binaries
from tests.command import ROOT


def storage_config(*overrides):
    """What tune.py composes from conf/ with ``overrides``."""
    schema.register()
    resolvers.register()
    with initialize_config_dir(str(ROOT / "conf")):
        return settings(compose("tune", overrides=list(overrides)))


@pytest.fixture(scope="session")
def binaries():
    """The folder with PostgreSQL's programs. CI installs them: there, a test without them fails."""
    try:
        return find_binaries(None, None, "")
    except UserError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def open_folder():
    """A folder that everybody may enter, as the server's account must; pytest's own are for their owner alone."""
    folder = Path(tempfile.mkdtemp(prefix="codes-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def template(binaries, open_folder):
    """The files of a server that was made and stopped: a copy starts in a fraction of the time that making takes."""
    config = local_config(open_folder / "template")
    with server_of(config).running():
        pass
    with open(open_folder / "template/data/postgresql.conf", "a") as settings:
        settings.write("fsync = off\n")  # nobody cuts the power in a test, and the disk may be slow
    return Path(config.data_dir)


@pytest.fixture(scope="session")
def local(template, open_folder):
    """A private server that runs for the whole session."""
    copy(template, open_folder / "local")
    config = local_config(open_folder / "local")
    with server_of(config).running():
        yield config


@pytest.fixture
def fresh(template, open_folder):
    """Configuration of a private server of the test's own, which does not run yet."""
    folder = open_folder / uuid.uuid4().hex
    copy(template, folder)
    return local_config(folder)


def copy(template, folder):
    """Copy the files of a server that does not run, with their owners."""
    shutil.copytree(template, folder)
    for path in (template / "data", *(template / "data").rglob("*")):
        if os.geteuid() == 0:
            os.chown(folder / path.relative_to(template), path.stat().st_uid, path.stat().st_gid)


@pytest.fixture(scope="session")
def foreign(template, open_folder):
    """Somebody else's server, always at the same port, with its administrator's connection settings."""
    copy(template, open_folder / "foreign")
    server = server_of(local_config(open_folder / "foreign", port=lasting_port()))
    with server.running():
        yield server


def lasting_port():
    """A free port below those that the system gives to clients, so that it is free while a killed server is away."""
    while True:
        port = random.SystemRandom().randrange(20_000, 32_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def server_of(config):
    from codes.storage.server import Server

    return Server(config)


def local_config(folder, **changes):
    config = storage_config("storage=postgres")
    return replace(config, data_dir=str(folder), **changes)


def remote_config(server, **changes):
    """How a guest of ``server`` configures it; without a password."""
    settings = {**server.connection(), "host": "127.0.0.1"}
    del settings["password"]
    config = storage_config("storage=postgres", "storage.mode=remote")
    return replace(config, **{**settings, **changes})


@contextmanager
def administrator(server, database="postgres"):
    """A cursor with every right on ``server``."""
    connection = psycopg2.connect(**server.connection(), dbname=database)
    connection.autocommit = True
    try:
        yield connection.cursor()
    finally:
        connection.close()


def postmaster(config):
    """Process of the private server, None while there is none."""
    try:
        return int((Path(config.data_dir) / "data/postmaster.pid").read_text().split()[0])
    except FileNotFoundError:
        return None
