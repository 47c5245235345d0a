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
import signal
import socket
import subprocess
import sys
import threading
import traceback
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from tempfile import TemporaryFile

ROOT = Path(__file__).parent.parent
TIMEOUT = 300  # seconds
# Of these a process looks at some once, when it starts or imports a library.
AT_THE_START = ("CUDA_", "LANG", "LC_", "LD_", "MKL_", "OMP_", "PYTHON", "TMPDIR")


def run(command: list[str], folder: Path, environment: dict[str, str]):
    """Outcome of ``python <command>``, a script or ``-m`` and a module, started in ``folder``."""
    with ExitStack() as stack:
        request, out, err = (stack.enter_context(TemporaryFile("w+")) for _ in range(3))
        nothing = stack.enter_context(open(os.devnull))
        json.dump({"command": command, "folder": str(folder), "environment": environment}, request)
        request.flush()
        ours, theirs = map(stack.enter_context, socket.socketpair())
        files = [stream.fileno() for stream in (request, nothing, out, err, theirs)]
        socket.send_fds(_process(), [b"."], files)
        theirs.close()
        ours.settimeout(TIMEOUT)
        told = stack.enter_context(ours.makefile())
        pid = int(told.readline())
        try:
            code = int(told.readline())
        except TimeoutError:
            os.kill(pid, signal.SIGKILL)
            raise subprocess.TimeoutExpired(command, TIMEOUT) from None
        for stream in (out, err):
            stream.seek(0)
        return subprocess.CompletedProcess(command, code, out.read(), err.read())


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


def _run(command: list[str], folder: str, environment: dict[str, str]) -> None:
    """What Python does with a command, from its start to its end."""
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
