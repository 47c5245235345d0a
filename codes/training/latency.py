"""How long predictions take."""

import logging
import math
import os
import random
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from time import monotonic, perf_counter, sleep, thread_time

import torch
from torch import Tensor, nn

from codes.data import TensorSplit
from codes.training.cpu import cpu_settings
from codes.training.evaluation import divergence, inference, predictions

LOCK_FILE = Path("/tmp/codes-latency.lock")  # of the host: TMPDIR differs between batch jobs
WARM_UP_CALLS = 3
FEWEST_REPEATS = 5
LONGEST_SECONDS = 2.0
PATIENCE, LOOK = 300.0, 0.02  # seconds that others are waited for, and between two looks
FINE = 1e-5  # seconds between two ticks of a clock that can time a prediction, at most
TICKS = 5  # that are looked at: the kernel may have worked for somebody else in one of them

Clock = Callable[[], float]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Latency:
    """Seconds to predict a whole split: ``median`` and interquartile range ``spread`` of ``repeats`` calls."""

    median: float
    spread: float
    repeats: int


def measure_latency(
    model: nn.Module, split: TensorSplit, t: Tensor, repeats: int, longest: float = math.inf
) -> Latency:
    """Time from normalised initial states to the normalised trajectories of ``split`` at all times ``t``.

    After warm-up, by ``clock_of`` the device, one measurement at a time on this host. Ends early once it has taken
    2 s, or ``longest`` seconds, but not before 5 repeats: slow models do not hold up the other processes of a study.
    """
    clock = clock_of(t.device)
    with host_lock(), inference(model), divergence():
        _warm_up(model, split, t)
        seconds: list[float] = []
        end = monotonic() + min(LONGEST_SECONDS, longest)
        while len(seconds) < repeats and (len(seconds) < FEWEST_REPEATS or monotonic() < end):
            seconds.append(_time_prediction(model, split, t, clock))
    return Latency(statistics.median(seconds), _interquartile_range(seconds), len(seconds))


@dataclass(frozen=True)
class Call:
    """What is timed in turn with others: predictions of ``split`` at times ``t``, on a CPU with ``threads`` threads."""

    model: nn.Module
    split: TensorSplit
    t: Tensor
    threads: int | None = None


def time_in_turn(calls: Sequence[Call], rounds: int, seed: int = 0) -> list[list[float]]:
    """Seconds of each of ``calls`` in each of ``rounds``, each round in another random order.

    What slows the machine down for a while so falls on all alike, and values of one round are pairs. Each comes after
    warm-up, for the one before has left its own data in the caches; by ``clock_of`` the device, one measurement at a
    time on this host.
    """
    order, draw = list(range(len(calls))), random.Random(seed)
    seconds: list[list[float]] = [[] for _ in calls]
    with host_lock(), ExitStack() as modes, divergence():
        for call in calls:
            modes.enter_context(inference(call.model))
        for _ in range(rounds):
            draw.shuffle(order)
            for index in order:
                call = calls[index]
                with cpu_settings(call.threads):
                    _warm_up(call.model, call.split, call.t)
                    seconds[index].append(_time_prediction(call.model, call.split, call.t, clock_of(call.t.device)))
    return seconds


def clock_of(device: torch.device) -> Clock:
    """The clock by which predictions on ``device`` are timed.

    That of the thread if one CPU thread does all the work, so that a prediction takes as long on a busy machine as on
    an idle one: it stands still while another program has the core. Otherwise, and where it ticks too seldom (every
    10 ms in some sandboxes), the clock on the wall.
    """
    alone = device.type == "cpu" and torch.get_num_threads() == 1
    return thread_time if alone and _is_fine(thread_time) else perf_counter


@cache
def _is_fine(clock: Clock) -> bool:
    return min(_tick(clock) for _ in range(TICKS)) < FINE


def _tick(clock: Clock) -> float:
    start = clock()
    while (next_tick := clock()) == start:
        pass
    return next_tick - start


def _warm_up(model: nn.Module, split: TensorSplit, t: Tensor) -> None:
    for _ in range(WARM_UP_CALLS):
        _time_prediction(model, split, t, perf_counter)


def _time_prediction(model: nn.Module, split: TensorSplit, t: Tensor, clock: Clock) -> float:
    synchronize(t.device)
    start = clock()
    for _ in predictions(model, split, t):
        pass
    synchronize(t.device)
    return clock() - start


def synchronize(device: torch.device) -> None:
    """Wait until ``device`` has done what it was asked; the CPU always has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _interquartile_range(values: list[float]) -> float:
    if len(values) < 2:
        return 0.0
    first, _, third = statistics.quantiles(values, n=4, method="inclusive")
    return third - first


def _opened(path: Path) -> int:
    """The file, made where there is none. For reading: a lock needs no more, and it may belong to another user."""
    try:
        return os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        handle = os.open(path, os.O_RDONLY | os.O_CREAT)
        os.fchmod(handle, 0o644)
        return handle


def _locks(handle: int) -> bool:
    """Whether the file is ours now."""
    import fcntl  # POSIX only: imported late, so that everything else works without it

    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


_in_vain: set[Path] = set()  # locks that this process did not get, the last time


@contextmanager
def host_lock(path: Path = LOCK_FILE) -> Iterator[None]:
    """Hold the host's one lock; the operating system frees it when a process dies.

    One that is stopped (Ctrl-Z, a suspended job) keeps it: after ``PATIENCE`` seconds this goes on without, and does
    not wait again until it has got the lock. So it does where the file can neither be opened nor made.
    """
    try:
        handle = _opened(path)
    except OSError as error:
        _give_up(path, f"cannot be opened ({error.strerror})")
        yield
        return
    try:
        end = monotonic() + PATIENCE
        while not (is_ours := _locks(handle)) and path not in _in_vain and monotonic() <= end:
            sleep(LOOK)
        if is_ours:
            _in_vain.discard(path)
        else:
            _give_up(path, f"has been held for {PATIENCE:.0f} s")
        yield
    finally:
        os.close(handle)


def _give_up(path: Path, why: str) -> None:
    if path not in _in_vain:
        _in_vain.add(path)
        log.warning("%s %s; measured beside whoever holds it", path, why)
