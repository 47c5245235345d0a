"""A private PostgreSQL server on this host: made when it is missing, shared by all coordinators that name its folder.

Each coordinator that uses the server holds a shared lock on the file ``users``, which the operating system frees when
it dies. Starting and stopping happen under an exclusive lock on the file ``change``; who ends and then gets ``users``
for itself was the last, and stops the server. A killed coordinator leaves it running at worst: the next one takes it
over, and stops it at its end.
"""

import fcntl
import os
import secrets
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import psycopg2

from codes.errors import UserError
from codes.schema import PostgresConfig
from codes.storage.accounts import Account, server_account
from codes.storage.binaries import find_binaries
from codes.storage.mounts import refuse_network

ROLE = "codes"
LOOPBACK = "127.0.0.1"
SOCKET_PATH_LIMIT = 103  # bytes, of the longest Unix socket address on macOS; Linux has room for four more
PROCESSES = Path("/proc")  # of Linux
PATIENCE = 60.0  # seconds for a server to start, recover or stop
POLL = 0.05  # seconds
DYING = "postgres"  # what is left of the command line of a server that has been killed, as long as it holds its port
# Another process took the port meanwhile; the children of a killed server are about to notice its end.
PASSING = ("Address already in use", "shared memory block")


class Server:
    """The server whose files are in ``config.data_dir``: its cluster in ``data``, ``password``, ``server.log``."""

    def __init__(self, config: PostgresConfig) -> None:
        self.config = config
        self.folder = Path(config.data_dir).resolve()
        self.data = self.folder / "data"
        self.key = f"storage.data_dir {self.folder}"

    @contextmanager
    def running(self) -> Iterator[None]:
        """Keep the server running inside, and stop it at the end if nobody else uses it.

        Settings of other servers in the environment (PGHOSTADDR, PGSERVICE, ...) do not count meanwhile.
        """
        refuse_network("storage.data_dir", self.folder, "two hosts would destroy it; choose a folder of this host")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"{self.key} cannot be made ({error.strerror}); choose another folder") from error
        with _without_client_settings(), open(self.folder / "users", "ab") as users:
            try:
                with self._changing():
                    fcntl.flock(users, fcntl.LOCK_SH)
                    self._ensure()
                yield
            finally:  # also of a start that Ctrl-C has cut short
                with self._changing():
                    if not self.config.keep_running and _is_mine_alone(users):
                        self._stop()

    def ensure(self) -> None:
        """Start the server again if it died."""
        with self._changing():
            self._ensure()

    def connection(self) -> dict[str, Any]:
        """Where and as whom to connect, for libpq; raises ``psycopg2.OperationalError`` while no server runs."""
        try:  # process, data folder, start, port, folder of the socket, ...
            lines = (self.data / "postmaster.pid").read_text().splitlines()
            port = int(lines[3])
        except (FileNotFoundError, IndexError):
            raise psycopg2.OperationalError(f"{self.key}: no server runs") from None
        host = str(self.data) if lines[4:5] == [str(self.data)] else LOOPBACK
        return {"host": host, "port": port, "user": ROLE, "password": self._password()}

    @contextmanager
    def _changing(self) -> Iterator[None]:
        with open(self.folder / "change", "ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _ensure(self) -> None:
        if not self._recovers():
            self._check_port()
            account = server_account(self.data)
            account.check_can_enter(self.folder, self.key)
            binaries = find_binaries(self.config.database_folder, self._version(), self.key)
            account.check_can_run(binaries / "postgres")
            if not self.data.exists():
                self._make(account, binaries)
            self._start(account, binaries)

    def _recovers(self) -> bool:
        """Whether a server is there and answers, after a while if it is just starting, recovering or stopping."""
        end = time.monotonic() + PATIENCE
        while self._postmaster_lives():
            if self._answers():
                return True
            if time.monotonic() > end:
                raise UserError(f"{self.key}: its server is alive but does not answer; see {self._log}")
            time.sleep(POLL)
        return False

    def _postmaster_lives(self) -> bool:
        """Whether the process that ``postmaster.pid`` names is our server; the number may be another one's by now."""
        try:
            pid = int((self.data / "postmaster.pid").read_text().split()[0])
        except (FileNotFoundError, IndexError, ValueError):
            return False
        state, command = _process(pid)
        return state not in ("Z", "X") and (str(self.data) in command or command == DYING)

    def _answers(self) -> bool:
        """Whether our password opens the server, which also proves to us that it is ours."""
        try:
            psycopg2.connect(**self.connection(), dbname="postgres", connect_timeout=5).close()
        except psycopg2.OperationalError as error:
            if "password authentication failed" in str(error):
                raise UserError(f"{self.key}: its server refuses the password in {self._password_file}") from error
            return False
        return True

    def _make(self, account: Account, binaries: Path) -> None:
        """Make the cluster beside its place and rename it: there is a whole one or none."""
        new, secret = self.folder / "data.new", self.folder / "password.new"
        self._remove_remains(new, account)
        new.mkdir(mode=0o700)
        account.own(new)
        _write_secret(self._password_file, secrets.token_urlsafe(24))
        try:
            _write_secret(secret, self._password())
            account.own(secret)
            settings = ["-U", ROLE, f"--pwfile={secret}", "--auth=scram-sha-256", "--encoding=UTF8", "--no-locale"]
            done = account.run([binaries / "initdb", "-D", new, *settings])
        finally:
            secret.unlink(missing_ok=True)
        if done.returncode != 0:
            self._remove_remains(new, account)
            raise UserError(f"{self.key}: cannot be filled: {_last_lines(done.stderr)}")
        new.rename(self.data)

    def _remove_remains(self, folder: Path, account: Account) -> None:
        if folder.exists():
            account.run(["rm", "-rf", folder])
            folder.rmdir() if folder.exists() else None

    def _start(self, account: Account, binaries: Path) -> None:
        end = time.monotonic() + PATIENCE
        while (message := self._try_start(account, binaries, self.config.port or _free_port())) is not None:
            if not any(text in message for text in PASSING) or time.monotonic() > end:
                raise UserError(f"{self.key}: PostgreSQL does not start: {message}")
            time.sleep(POLL)

    def _try_start(self, account: Account, binaries: Path, port: int) -> str | None:
        """Start the server and wait until it answers; returns what it says if it ends instead."""
        with open(self._log, "ab") as log:
            begin = log.tell()  # before the start: the server's writing moves the same position
            process = account.start([binaries / "postgres", "-D", self.data, *self._settings(port)], log)
        # Somebody must ask for the exit code of a dead server: until then its number counts as alive.
        threading.Thread(target=process.wait, daemon=True).start()
        end = time.monotonic() + PATIENCE
        try:
            while process.poll() is None:
                if self._answers():
                    return None
                if time.monotonic() > end:
                    process.send_signal(signal.SIGINT)  # PostgreSQL's fast shutdown
                    return f"no answer after {PATIENCE:.0f} s; see {self._log}"
                time.sleep(POLL)
        except KeyboardInterrupt:
            process.send_signal(signal.SIGINT)
            process.wait(PATIENCE)
            raise
        with open(self._log, "rb") as log:
            log.seek(begin)
            return _last_lines(log.read().decode(errors="replace"))

    def _settings(self, port: int) -> list[str]:
        socket_path = os.fsencode(self.data / f".s.PGSQL.{port}")
        quoted = str(self.data).replace('"', '""')
        possible = len(socket_path) <= SOCKET_PATH_LIMIT and b"," not in socket_path  # a comma separates hosts
        sockets = f'"{quoted}"' if possible else ""
        settings = {
            "listen_addresses": LOOPBACK,
            "port": port,
            "unix_socket_directories": sockets,
            "logging_collector": "off",
            "log_checkpoints": "off",
        }
        return [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]

    def _stop(self) -> None:
        if self._postmaster_lives():
            account = server_account(self.data)
            binaries = find_binaries(self.config.database_folder, self._version(), self.key)
            done = account.run([binaries / "pg_ctl", "stop", "-D", self.data, "-m", "fast", "-t", f"{PATIENCE:.0f}"])
            if done.returncode != 0:
                raise UserError(f"{self.key}: its server does not stop: {_last_lines(done.stderr)}")

    def _check_port(self) -> None:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((LOOPBACK, self.config.port or 0))
            except OSError as error:
                free = "leave it out for a free one"
                raise UserError(f"storage.port {self.config.port}: {error.strerror}; {free}") from error

    def _version(self) -> str | None:
        """Major version of PostgreSQL that the cluster is for; None before there is one."""
        if not self.data.exists():
            return None
        try:
            return (self.data / "PG_VERSION").read_text().strip()
        except FileNotFoundError:
            raise UserError(f"{self.key}: its folder data is no PostgreSQL cluster") from None

    @property
    def _log(self) -> Path:
        return self.folder / "server.log"

    @property
    def _password_file(self) -> Path:
        return self.folder / "password"

    def _password(self) -> str:
        path = self._password_file
        if not (password := path.read_text() if path.exists() else ""):
            state = "empty" if path.exists() else "missing"
            raise UserError(f"{self.key}: the file password is {state}, nothing else opens the server")
        return password


@contextmanager
def _without_client_settings() -> Iterator[None]:
    """Without the variables in which libpq looks for whatever it is not told; not all can be told away."""
    taken = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("PG")}
    try:
        yield
    finally:
        os.environ.update(taken)


def _is_mine_alone(users: IO[bytes]) -> bool:
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _process(pid: int) -> tuple[str, str]:
    """State and command line of a process; Z or X is one that has ended. Empty where there is none.

    One that is about to end has no command line any more: of that the name of its program.
    """
    if (PROCESSES / "self/stat").exists():
        try:
            words = (PROCESSES / f"{pid}/cmdline").read_bytes().split(b"\0")
            program, _, fields = (PROCESSES / f"{pid}/stat").read_text().partition(" (")[2].rpartition(") ")
        except (FileNotFoundError, ProcessLookupError):
            return "", ""
        return fields[:1], " ".join(map(os.fsdecode, words)) or program
    # One -o for each column: on macOS all that follows the first = of a word is that column's heading.
    ps = ["ps", "-ww", "-o", "stat=", "-o", "args=", "-p", str(pid)]
    told = subprocess.run(ps, capture_output=True, text=True, check=False)
    state, _, command = told.stdout.strip().partition(" ")
    return state[:1], command


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def _write_secret(path: Path, text: str) -> None:
    """A file that only its owner may read, from its first byte on."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)


def _last_lines(text: str) -> str:
    """What PostgreSQL said before it gave up."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    telling = [line for line in lines if any(word in line for word in ("FATAL", "PANIC", "HINT", "DETAIL", "rror"))]
    return " ".join((telling or lines)[-4:]) or "it says nothing"
