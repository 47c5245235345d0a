"""What ends a process from outside, and leaves it time to put things in order."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

INTERRUPTED = 130  # the shell's exit code after Ctrl-C
REPEATED = 10.0  # seconds


@contextmanager
def like_ctrl_c() -> Iterator[None]:
    """Inside, SIGTERM, by which batch systems announce the end of a job, and the end of the terminal are Ctrl-C.

    Such systems may say it several times: Slurm to all processes of a job, of which ``srun`` hands it on to its own. So
    what comes again within ten seconds counts once, unlike a second Ctrl-C, which ends a study at once.

    Where the end of the terminal is ignored (``nohup``), it stays so. In other threads than the main one, which alone
    may catch signals, nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in enders()}
    told: list[float] = []

    def interrupt(number: int, frame: Any) -> None:
        if number != signal.SIGTERM:
            _leave_terminal()
        if not told or time.monotonic() > told[0] + REPEATED:
            told[:] = [time.monotonic()]
            raise KeyboardInterrupt

    for number in before:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def enders() -> list[int]:
    """SIGTERM, and the end of the terminal unless that is ignored or there is none."""
    hangup: int | None = getattr(signal, "SIGHUP", None)  # of Unix
    if hangup is None or signal.getsignal(hangup) is signal.SIG_IGN:
        return [signal.SIGTERM]
    return [signal.SIGTERM, hangup]


def _leave_terminal() -> None:
    """Nobody reads what is printed there from now on, and writing it would fail."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (1, 2):
        if os.isatty(stream):
            os.dup2(nowhere, stream)
