"""What ends a process from outside, and leaves it time to put things in order."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def like_ctrl_c() -> Iterator[None]:
    """Inside, SIGTERM, by which batch systems announce the end of a job, and the end of the terminal are Ctrl-C.

    Where the end of the terminal is ignored (``nohup``), it stays so. In other threads than the main one, which alone
    may catch signals, nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _enders()}
    for number in before:
        signal.signal(number, _interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _enders() -> list[int]:
    hangup: int | None = getattr(signal, "SIGHUP", None)  # of Unix
    if hangup is None or signal.getsignal(hangup) is signal.SIG_IGN:
        return [signal.SIGTERM]
    return [signal.SIGTERM, hangup]


def _interrupt(number: int, frame: Any) -> None:
    if number != signal.SIGTERM:  # nobody reads what is printed from now on, and writing it would fail
        nowhere = os.open(os.devnull, os.O_RDWR)
        for stream in (1, 2):
            if os.isatty(stream):
                os.dup2(nowhere, stream)
    raise KeyboardInterrupt
