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
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from errno import EDQUOT, ENOSPC, EROFS
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from tqdm import tqdm

from codes import resolvers
from codes.device import device_model
from codes.errors import DataReplaced, Diverged, StopTraining, UserError
from codes.memory import PeakMemory, give_back
from codes.tuning.outcomes import Outcome, Verdict

Report = Callable[[int, dict[str, float]], None]
Runner = Callable[[DictConfig, Report, Path], dict[str, float]]
Send = Callable[[Any], None]


@dataclass(frozen=True)
class Settings:
    """What a worker is for. ``runner`` and ``warm_up`` are references, ``module:function``, imported by the worker.

    ``deadline`` is the number of seconds without a sign of life after which it counts as hung while it trains.
    """

    device: str
    threads: int
    runner: str
    warm_up: str | None
    log: Path
    deadline: float


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
    """An evaluation of the running trial; the coordinator answers with an ``Answer``."""

    epoch: int
    metrics: dict[str, float]


@dataclass(frozen=True)
class Alive:
    """The process runs, whatever its training does."""


@dataclass(frozen=True)
class Answer:
    """Go on, or stop for ``reason``."""

    reason: str | None = None


def serve(connection: Connection, settings: Settings) -> None:
    """Body of a worker process; returns only when it cannot start."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the coordinator decides
    _write_output_to(settings.log)
    os.environ[resolvers.DEVICE_SLOT_VARIABLE] = settings.device
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(settings.threads)
    # Threads that spin while they wait for each other make small networks ten times slower on a machine that has
    # anything else to do; read, like the counts above, when PyTorch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    tqdm.set_lock(threading.RLock())  # tqdm's own is a semaphore, which a killed process leaves to others
    resolvers.register()
    inbox, send = _listen(connection), _sender(connection)
    try:
        runner: Runner = _load(settings.runner)
        if settings.warm_up is not None:
            _load(settings.warm_up)()
        hardware, peak = device_model(settings.device), PeakMemory(settings.device)
    except Exception:
        send(Ready(traceback=traceback.format_exc()))
        return
    gc.freeze()  # else each collection between two trials looks at all that was imported, for a tenth of a second
    send(Ready(hardware))
    while True:
        job = inbox.get()
        peak.start()
        with _signs_of_life(send, settings.deadline / 4):
            verdict = _run(job, runner, send, inbox)
        send(replace(verdict, peak_memory=peak.read()))
        _release_memory()


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


def _run(job: Job, runner: Runner, send: Send, inbox: "queue.Queue[Any]") -> Verdict:
    def report(epoch: int, metrics: dict[str, float]) -> None:
        send(Progress(epoch, {name: float(value) for name, value in metrics.items()}))
        answer: Answer = inbox.get()
        if answer.reason is not None:
            raise StopTraining(answer.reason)

    start = time.monotonic()
    try:
        metrics = runner(job.config, report, job.folder)
    except Exception as error:
        return _verdict(error, time.monotonic() - start)
    finite = {name: float(value) for name, value in metrics.items()}
    return Verdict(Outcome.COMPLETE, metrics=finite, duration=time.monotonic() - start)


def _verdict(error: Exception, duration: float) -> Verdict:
    """The outcome that an exception means."""
    if isinstance(error, Diverged):
        return Verdict(Outcome.DIVERGED, error.reason, duration=duration)
    if isinstance(error, StopTraining):
        return Verdict(Outcome.PRUNED, error.reason, duration=duration)
    reason = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
    outcome = Outcome.OUT_OF_MEMORY if _is_out_of_memory(error) else Outcome.FAILED
    first_line = (reason.splitlines() or [reason])[0]
    text = "".join(traceback.format_exception(error))
    full = isinstance(error, OSError) and error.errno in (ENOSPC, EDQUOT, EROFS)
    broken = outcome is Outcome.FAILED and "CUDA error" in str(error)
    fatal = full or isinstance(error, DataReplaced)
    return Verdict(outcome, first_line, duration=duration, traceback=text, fatal=fatal, broken=broken)


def _is_out_of_memory(error: Exception) -> bool:
    torch = sys.modules.get("torch")
    if isinstance(error, MemoryError) or (torch is not None and isinstance(error, torch.OutOfMemoryError)):
        return True
    # the CPU allocator and some CUDA libraries raise a plain RuntimeError
    words = ("can't allocate memory", "out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
    return isinstance(error, RuntimeError) and any(word in str(error) for word in words)


def _release_memory() -> None:
    gc.collect()
    give_back()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


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
