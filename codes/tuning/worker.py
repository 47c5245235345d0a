"""The child's side of a device slot: a process that runs one trial after another, as long as its coordinator lives."""

import faulthandler
import gc
import importlib
import logging
import os
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from tqdm import tqdm

from codes import resolvers
from codes.device import device_model
from codes.errors import UserError
from codes.memory import PeakMemory
from codes.signals import enders
from codes.tuning.group import Group, Runner, StackRunner, release_memory
from codes.tuning.outcomes import Verdict

Send = Callable[[Any], None]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Settings:
    """What a worker is for. ``runner`` and ``warm_up`` are references, ``module:function``, imported by the worker.

    So are ``together``, which runs several trials as one stack, and ``speed_up``, which measures what that gains.
    ``deadline`` is the number of seconds without a sign of life after which it counts as hung while it trains; while
    it starts it has some more.
    """

    device: str
    threads: int
    runner: str
    warm_up: str | None
    log: Path
    deadline: float
    together: str | None = None
    speed_up: str | None = None


@dataclass(frozen=True)
class Runners:
    """The functions that ``Settings`` refers to."""

    run: Runner
    run_together: StackRunner | None
    speed_up: Callable[[DictConfig, int], float] | None


@dataclass(frozen=True)
class Job:
    """One trial: its config, types kept and unresolved, and the folder for its model."""

    config: DictConfig
    folder: Path


@dataclass(frozen=True)
class Ready:
    """The worker can take trials, on a device of the model ``hardware``; with a traceback: it cannot."""

    hardware: str = ""
    traceback: str = ""


@dataclass(frozen=True)
class Progress:
    """An evaluation of a running trial, one of ``together``; the coordinator answers with an ``Answer``."""

    member: int
    epoch: int
    metrics: dict[str, float]
    together: int


@dataclass(frozen=True)
class Ended:
    """A trial has ended; others of its group may go on."""

    member: int
    verdict: Verdict


@dataclass(frozen=True)
class Note:
    """Something that the user should know."""

    text: str


@dataclass(frozen=True)
class Measure:
    """Asks how many times as fast ``trials`` like that of ``config`` are together; answered by a ``SpeedUp``."""

    config: DictConfig
    trials: int


@dataclass(frozen=True)
class SpeedUp:
    """``factor`` times as fast as one by one; 0 with the ``reason`` why they cannot train together."""

    factor: float
    reason: str = ""


@dataclass(frozen=True)
class Alive:
    """The process runs, whatever its training does."""


@dataclass(frozen=True)
class Answer:
    """Go on, or stop for ``reason``."""

    reason: str | None = None


def serve(connection: Connection, settings: Settings) -> None:
    """Body of a worker process; returns only when it cannot start."""
    # They reach the whole group; the coordinator decides. The last two are those of submitit, and of `sbatch --signal`.
    for number in (signal.SIGINT, *enders(), signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    _write_output_to(settings.log)
    os.environ[resolvers.DEVICE_SLOT_VARIABLE] = settings.device
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(settings.threads)
    # Threads that spin while they wait for each other make small networks ten times slower on a machine that has
    # anything else to do; read, like the counts above, when PyTorch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    tqdm.set_lock(threading.RLock())  # tqdm's own is a semaphore, which a killed process leaves to others
    resolvers.register()
    inbox, send = _listen(connection), _sender(connection)
    gc.disable()  # while all that is made stays
    try:
        with _signs_of_life(send, settings.deadline / 4):
            together, speed_up = (name and _load(name) for name in (settings.together, settings.speed_up))
            runners = Runners(_load(settings.runner), together or None, speed_up or None)
            if settings.warm_up is not None:
                _load(settings.warm_up)()
            hardware, peak = device_model(settings.device), PeakMemory(settings.device)
    except Exception:
        send(Ready(traceback=traceback.format_exc()))
        return
    gc.enable()
    send(Ready(hardware))
    modules = 0
    while True:
        if len(sys.modules) > modules:  # a collection after a trial need not look at what they hold, for tens of ms
            modules = len(sys.modules)
            gc.freeze()
        request = inbox.get()
        peak.start()
        with _signs_of_life(send, settings.deadline / 4):
            if isinstance(request, Measure):
                send(_speed_up(request, runners))
            else:
                _run(request, runners, send, inbox, peak)
        release_memory()


def _listen(connection: Connection) -> "queue.Queue[Any]":
    """Messages of the coordinator. A thread reads them, and ends the process at once when there are no more to come."""
    inbox: queue.Queue[Any] = queue.Queue()

    def read() -> None:
        try:
            while True:
                inbox.put(connection.recv())
        except (EOFError, OSError):
            os._exit(0)  # the coordinator is gone, or wants us gone
        except BaseException:
            traceback.print_exc()
            os._exit(1)

    threading.Thread(target=read, daemon=True).start()
    return inbox


def _sender(connection: Connection) -> Send:
    """``connection.send`` for several threads."""
    lock = threading.Lock()

    def send(message: Any) -> None:
        with lock:
            connection.send(message)

    return send


@contextmanager
def _signs_of_life(send: Send, interval: float) -> Iterator[None]:
    """Have a thread tell every ``interval`` seconds that this process runs."""
    ended = threading.Event()

    def tell() -> None:
        while not ended.wait(interval):
            send(Alive())

    thread = threading.Thread(target=tell, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _run(jobs: Sequence[Job], runners: Runners, send: Send, inbox: "queue.Queue[Any]", peak: PeakMemory) -> None:
    """Run ``jobs``, and send each one's verdict as it ends."""

    def ask(member: int, epoch: int, metrics: dict[str, float], together: int) -> str | None:
        send(Progress(member, epoch, metrics, together))
        answer: Answer = inbox.get()
        return answer.reason

    group = Group([job.config for job in jobs], [job.folder for job in jobs], ask, lambda text: send(Note(text)))
    for member, verdict in group.run(runners.run, runners.run_together):
        send(Ended(member, replace(verdict, peak_memory=peak.read())))


def _speed_up(request: Measure, runners: Runners) -> SpeedUp:
    """What cannot be measured does not pay; why is for the user to read, and with a traceback in the slot's log."""
    if runners.speed_up is None:
        return SpeedUp(0.0, "this study's trainer trains one at a time")
    try:
        return SpeedUp(runners.speed_up(request.config, request.trials))
    except UserError as error:
        return SpeedUp(0.0, str(error))
    except Exception as error:  # that of the trial itself, most likely, which then runs alone
        log.exception("%d trials together could not be measured", request.trials)
        return SpeedUp(0.0, f"{type(error).__name__}: {error}")


def _load(reference: str) -> Callable[..., Any]:
    module, _, name = reference.partition(":")
    function: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return function


def _write_output_to(log: Path) -> None:
    """Send everything that is printed, also by native code and at a segfault, to a file instead of over the bars."""
    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    faulthandler.enable()
    logging.basicConfig(level=logging.INFO, format="[%(asctime)s][%(name)s][%(levelname)s] %(message)s")
