"""A process that has imported the libraries, of which the commands of the tests are forks.

To import Hydra, Optuna and PyTorch takes a command one to two seconds, often longer than its work. A fork runs the
script from its first line, as a process of its own, with the arguments, folder, environment and streams that it is
given; its workers import all that anew.
"""

import atexit
import gc
import importlib
import json
import os
import pkgutil
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from functools import cache
from pathlib import Path
from tempfile import TemporaryFile

ROOT = Path(__file__).parent.parent
TIMEOUT = 300  # seconds
# Of these a process looks at some once, when it starts or imports a library.
AT_THE_START = ("CUDA_", "LANG", "LC_", "LD_", "MKL_", "OMP_", "PYTHON", "TMPDIR")


def serves(environment: dict[str, str]) -> bool:
    """Whether a fork is what a new process with these variables would be."""
    return sys.platform == "linux" and not any(  # on macOS some libraries do not survive a fork
        name.startswith(AT_THE_START) for name in environment
    )


def run(command: list[str], folder: Path, environment: dict[str, str]):
    """Outcome of ``python <command>``, a script or ``-m`` and a module, started in ``folder``."""
    with open(os.devnull) as nothing, TemporaryFile("w+") as out, TemporaryFile("w+") as err:
        started = Started(command, folder, environment, [nothing, out, err])
        try:
            code = started.wait(TIMEOUT)
        except subprocess.TimeoutExpired:
            started.kill()
            raise
        for stream in (out, err):
            stream.seek(0)
        return subprocess.CompletedProcess(command, code, out.read(), err.read())


class Started:
    """A fork as ``subprocess.Popen`` shows the processes that it starts; what it prints comes through pipes."""

    def __init__(self, command, folder, environment, streams=None, new_session=False, stdin=None):
        self.args, self.returncode = command, None
        self.stdin = self.stdout = self.stderr = None
        with ExitStack() as stack:
            if streams is None:
                (read, self.stdin), (self.stdout, out), (self.stderr, err) = (_pipe() for _ in range(3))
                streams = [stack.enter_context(stream) for stream in (read, out, err)]
                if stdin is None:
                    self.stdin.close()
            settings = {"environment": environment, "new_session": new_session}
            request = stack.enter_context(TemporaryFile("w+"))
            json.dump({"command": command, "folder": str(folder), **settings}, request)
            request.flush()
            self.socket, theirs = socket.socketpair()
            files = [request, *streams, stack.enter_context(theirs)]
            socket.send_fds(_process(), [b"."], [file.fileno() for file in files])
        self.told = self.socket.makefile()
        self.pid = int(self.told.readline())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for stream in (self.stdin, self.stdout, self.stderr):
            stream.close()
        self.wait()

    def wait(self, timeout=None):
        if self.returncode is None:
            if not select.select([self.socket], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(self.args, timeout)
            with self.socket, self.told:
                self.returncode = int(self.told.readline())
        return self.returncode

    def poll(self):
        with suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def communicate(self, timeout=None):
        self.stdin.close()
        with ThreadPoolExecutor() as readers:
            read = [readers.submit(_rest, stream) for stream in (self.stdout, self.stderr)]
            try:
                self.wait(timeout)
            except subprocess.TimeoutExpired:
                self.kill()
                raise
        return tuple(text.result() for text in read)

    def send_signal(self, number):
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self):
        self.send_signal(signal.SIGTERM)

    def kill(self):
        self.send_signal(signal.SIGKILL)


def _pipe():
    """The end that is read, and the one that is written."""
    read, write = os.pipe()
    return open(read), open(write, "w")


def _rest(stream):
    """What is still to come, of which a test may have closed the stream."""
    return "" if stream.closed else stream.read()


@cache
def _process() -> socket.socket:
    """Where it hears requests; it ends when this process does."""
    ours, theirs = socket.socketpair()
    subprocess.Popen([sys.executable, "-m", __name__, str(theirs.fileno())], pass_fds=[theirs.fileno()], cwd=ROOT)
    theirs.close()
    return ours


def _serve(requests: socket.socket) -> None:
    import codes

    for module in pkgutil.walk_packages(codes.__path__, "codes."):
        importlib.import_module(module.name)
    importlib.import_module("scipy.integrate")  # which a dataset imports when it is made
    gc.collect()
    gc.freeze()  # to look at them for garbage would copy them
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those who wait for commands
    while True:
        message, files, *_ = socket.recv_fds(requests, 1, 5)
        if not message:
            return
        if not os.fork():
            requests.close()
            _answer(*files)
        for file in files:
            os.close(file)


def _answer(request: int, stdin: int, stdout: int, stderr: int, told: int) -> None:
    """Tell the number of the process that runs the command, and how it has ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    pid = os.fork()
    if not pid:
        os.close(told)
        for number, file in enumerate((stdin, stdout, stderr)):
            os.dup2(file, number)
            os.close(file)
        with open(request) as file:
            file.seek(0)
            _run(**json.load(file))
    os.write(told, f"{pid}\n".encode())
    _, status = os.waitpid(pid, 0)
    os.write(told, f"{os.waitstatus_to_exitcode(status)}\n".encode())
    os._exit(0)


def _run(command: list[str], folder: str, environment: dict[str, str], new_session: bool) -> None:
    """What Python does with a command, from its start to its end."""
    if new_session:
        os.setsid()
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115 -- that of the first process was opened on another file
    sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    code: object = None
    try:
        if command[0] == "-m":
            sys.argv, sys.path[0] = command[1:], folder
            runpy.run_module(command[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv, sys.path[0] = command, str(Path(command[0]).parent)
            runpy.run_path(command[0], run_name="__main__")
    except SystemExit as end:
        code = end.code
    except BaseException:
        traceback.print_exc()
        code = 1
    if not isinstance(code, int | None):
        sys.stderr.write(f"{code}\n")
        code = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code or 0)


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])))
