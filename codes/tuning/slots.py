"""The coordinator's side of a device slot: which devices there are, and one process for each."""

import logging
import math
import multiprocessing
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import wait
from typing import Any

from codes.device import expand_devices, resolve_device, usable_cores
from codes.errors import UserError
from codes.tuning.outcomes import Outcome, Verdict
from codes.tuning.worker import Alive, Answer, Ended, Job, Measure, Note, Progress, Ready, Settings, SpeedUp, serve

OnProgress = Callable[[Progress], str | None]
log = logging.getLogger(__name__)
LOOK = 1.0  # seconds between two looks at the clock, the shortest deadline
STARTING = 5  # deadlines, in which a process gives its first signs
GRACE = 5.0  # seconds for a worker to end before it is killed


class StartError(Exception):
    """A worker cannot start, and says why: for example it could not import its runner."""


class StartKilled(StartError):
    """A worker ended before it was ready, without a word; the next one may have more luck."""


def resolve_devices(devices: Sequence[str]) -> tuple[str, ...]:
    """One device per slot, each on this machine."""
    if not devices:
        raise UserError("devices must have at least one entry, but is []; for example devices=[cpu] or devices=[auto]")
    return tuple(name if name == "cpu" else resolve_device(name, "devices") for name in expand_devices(devices))


def threads_per_slot(slots: int) -> int:
    """CPU threads of one slot: the cores that this process may use, divided evenly, at least one."""
    return max(1, usable_cores() // slots)


class Worker:
    """A process that serves one slot. Its owner, one thread, calls everything but ``kill``."""

    def __init__(self, settings: Settings) -> None:
        if multiprocessing.get_start_method(allow_none=True) == "loky":  # joblib's own, unknown to what it would start
            multiprocessing.set_start_method("spawn", force=True)
        context = multiprocessing.get_context("spawn")
        self.settings = settings
        self.hardware = ""  # model of its device, once it is ready
        self.silent = 0.0  # seconds after which it was ended
        self.waited = 0.0  # seconds for news of what it trains
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs, settings), daemon=True)
        self.process.start()
        theirs.close()  # else the end of the process would not be the end of the pipe

    def wait_until_ready(self) -> None:
        """Return when the worker can take trials; raises ``StartError`` with the cause when it cannot."""
        while isinstance(message := self._receive(STARTING * self.settings.deadline), Alive):
            pass
        if message is None:
            raise StartKilled(f"the worker for {self.settings.device} {self._death()}, see {self.settings.log}")
        assert isinstance(message, Ready)
        if message.traceback:
            raise StartError(message.traceback)
        self.hardware = message.hardware

    def run(
        self,
        jobs: Sequence[Job],
        on_progress: OnProgress,
        note: Callable[[str], None] = log.info,
        longest: Callable[[], float] = lambda: math.inf,
    ) -> Iterator[tuple[int, Verdict]]:
        """Run trials, several as one stack; yields the place of each among ``jobs`` and its verdict, as it ends.

        ``on_progress`` returns None, or the reason to stop that trial. ``note`` is told what else happens. A process
        that lives while its training makes no evaluation in ``longest()`` seconds, nor in the deadline, is ended.
        """
        left = set(range(len(jobs)))
        since, spent = time.monotonic(), 0.0  # seconds of the worker that each of those that are left has had
        self.waited, stuck = 0.0, ""
        sent = self._send(tuple(jobs))
        while left and sent and (message := self._receive(self.settings.deadline)) is not None:
            if isinstance(message, Alive):
                if stuck := self._stuck(longest()):
                    self.kill()
                    break
                continue
            self.waited = 0.0
            if isinstance(message, Ended):
                spent += (time.monotonic() - since) / len(left)
                since = time.monotonic()
                left.remove(message.member)
                yield message.member, message.verdict
            elif isinstance(message, Progress):
                sent = self._send(Answer(on_progress(message)))
            elif isinstance(message, Note):
                note(message.text)
        if left:
            outcome = Outcome.TIME_PRUNED if stuck else Outcome.CRASHED
            reason = f"{stuck or f'the worker {self._death()}'}, see {self.settings.log}"
            spent += (time.monotonic() - since) / len(left)
            for member in sorted(left):
                yield member, Verdict(outcome, reason, duration=spent, broken=True, together=len(jobs))

    def speed_up(self, job: Job, trials: int) -> SpeedUp:
        """How many times as fast ``trials`` like ``job`` are together as one by one."""
        sent = self._send(Measure(job.config, trials))
        while sent and (message := self._receive(self.settings.deadline)) is not None:
            if isinstance(message, SpeedUp):
                return message
        return SpeedUp(0.0)  # the process has ended, which running the trial will tell

    def is_alive(self) -> bool:
        """Whether the process runs."""
        return self.process.is_alive()

    def kill(self) -> None:
        """End the process at once; its running trial is lost, files appear whole or not at all. From any thread."""
        self.process.kill()

    def close(self) -> None:
        """End the process and leave nothing of it behind."""
        self.connection.close()  # an idle worker ends by itself
        self.process.join(GRACE)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.process.close()

    def _send(self, message: Any) -> bool:
        try:
            self.connection.send(message)
        except (BrokenPipeError, ConnectionResetError):
            return False
        return True

    def _receive(self, deadline: float) -> Any:
        """Next message, or None when the process has ended; after ``deadline`` seconds of silence it is ended.

        Those in which this process itself was stopped (Ctrl-Z, a closed laptop) do not count: so was the worker.
        """
        left = deadline
        while not self._is_heard(min(left, LOOK)):
            left -= LOOK
            if left > 0:
                continue
            self.silent = deadline
            self.kill()
            return None
        try:
            return self.connection.recv() if self.connection.poll() else None
        except (EOFError, ConnectionResetError):
            return None

    def _stuck(self, limit: float) -> str:
        """What there is to say of a training that has made no evaluation for longer than any may take; else nothing."""
        if self.waited <= max(limit, self.settings.deadline):
            return ""
        return f"no evaluation in {self.waited:.3g} s, more than the limit of {limit:.3g} s for all epochs"

    def _is_heard(self, seconds: float) -> bool:
        """Whether a message, or the end of the process, comes within ``seconds``, which count as waited."""
        since = time.monotonic()
        heard = bool(wait([self.connection, self.process.sentinel], seconds))
        self.waited += min(time.monotonic() - since, seconds)
        return heard

    def _death(self) -> str:
        self.process.join(GRACE)
        code = self.process.exitcode
        if self.silent:
            return f"gave no sign of life for {self.silent:g} s and was ended (deadline)"
        if code is not None and code < 0:
            known = {number.value: number.name for number in signal.Signals}  # of the real-time ones only two
            hint = " (out of memory on the host?)" if -code == signal.SIGKILL else ""
            return f"was killed by {known.get(-code, f'signal {-code}')}{hint}"
        return f"ended with exit code {code}"


def start_resource_tracker() -> None:
    """Start the helper process of ``multiprocessing`` here, in the main thread.

    Whoever starts it gets SIGINT unblocked, which the slots' threads and with them the workers must keep blocked.
    """
    if sys.platform != "win32":
        from multiprocessing import resource_tracker

        resource_tracker.ensure_running()


def block_interrupts() -> None:
    """Keep Ctrl-C away from this thread and from the processes that it starts, from their first instruction on."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
