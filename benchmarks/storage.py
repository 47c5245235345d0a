"""Writing to the storages without training: ``python -m benchmarks.storage``, about six minutes.

Clients ask for trials with four parameters, report twenty times and tell, as fast as the storage lets them: threads of
one process, as the slots of a coordinator are, or processes. Each storage is measured as ``storage=`` configures it and
as Optuna does by default for the same database, in turns on the same disk and server, each with a new study. Target: no
errors, and with 8 slots twice the reports per second of Optuna's default. At the end of each storage its rates with
more and more finished trials in the study. Other lines of the results file stay there.
"""

import argparse
import json
import multiprocessing
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import optuna
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend

from benchmarks.record import RESULTS, circumstances
from codes.schema import FileStorageConfig, PostgresConfig, StorageConfig
from codes.storage import opened

KINDS = ("sqlite", "postgres", "journal")
REPORTS = 20  # of each trial
PARAMETERS = 4
STUDY = "benchmark"
SLOTS = 8  # that the growth is measured with
TURNS = 3
PATIENCE = 120.0  # seconds for all clients to open the storage


@dataclass(frozen=True)
class Load:
    """What ``clients`` clients got done; ``threads`` of one process, or a process each."""

    storage: str
    default: bool  # as Optuna configures it
    threads: bool
    clients: int
    trials_per_second: float
    reports_per_second: float
    errors: int
    finished: int  # trials in the study before


@dataclass(frozen=True)
class Count:
    """What one client got done."""

    trials: int
    reports: int
    errors: int
    seconds: float


Place = Callable[[], AbstractContextManager[BaseStorage]]


def client(place: Place, start: Any, seconds: float, results: Any) -> None:
    """A process of its own, which begins when all have opened the storage."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with place() as storage:
        study = optuna.load_study(study_name=STUDY, storage=storage)
        start.wait(PATIENCE)
        results.put(_write(study, seconds))


def _write(study: optuna.Study, seconds: float) -> Count:
    """Write trials for some time."""
    study.sampler = optuna.samplers.RandomSampler()
    trials = reports = errors = 0
    begin = time.monotonic()
    while time.monotonic() - begin < seconds:
        try:
            trial = study.ask()
            for index in range(PARAMETERS):
                trial.suggest_float(f"x{index}", 0, 1)
            for step in range(REPORTS):
                trial.report(0.5, step)
                reports += 1
            study.tell(trial, 0.5)
            trials += 1
        except Exception:  # of any kind: they are what is counted
            errors += 1
    return Count(trials, reports, errors, time.monotonic() - begin)


class Ours:
    """The storage as ``config`` describes it."""

    def __init__(self, config: StorageConfig) -> None:
        self.config = config

    @contextmanager
    def __call__(self) -> Iterator[BaseStorage]:
        with opened(self.config) as database:
            yield database.storage


class Default:
    """The storage as Optuna makes it from an address."""

    def __init__(self, kind: str, address: str) -> None:
        self.kind, self.address = kind, address

    @contextmanager
    def __call__(self) -> Iterator[BaseStorage]:
        if self.kind == "journal":
            yield JournalStorage(JournalFileBackend(self.address))
        else:
            yield RDBStorage(self.address)


def measure(kind: str, place: Place, clients: int, seconds: float, threads: bool) -> Load:
    """Load of ``clients`` clients for ``seconds``, on the study in ``place``, made if it is missing."""
    with place() as storage:
        study = optuna.create_study(study_name=STUDY, storage=storage, load_if_exists=True)
        finished = len(study.get_trials(deepcopy=False))
        counts = _threads(study, clients, seconds) if threads else _processes(place, clients, seconds)
    taken = max(count.seconds for count in counts)
    trials, reports = sum(count.trials for count in counts), sum(count.reports for count in counts)
    errors = sum(count.errors for count in counts)
    return Load(kind, isinstance(place, Default), threads, clients, trials / taken, reports / taken, errors, finished)


def compare(kind: str, places: Sequence[Place], clients: int, seconds: float, threads: bool) -> list[Load]:
    """Loads on the studies in ``places``, which take turns, so that what else the machine does hits all of them."""
    turns = [[measure(kind, place, clients, seconds / TURNS, threads) for place in places] for _ in range(TURNS)]
    return [_mean(loads) for loads in zip(*turns, strict=True)]


def _mean(loads: Sequence[Load]) -> Load:
    trials, reports = fmean(load.trials_per_second for load in loads), fmean(load.reports_per_second for load in loads)
    errors = sum(load.errors for load in loads)
    return replace(loads[0], trials_per_second=trials, reports_per_second=reports, errors=errors)


def grow(kind: str, place: Place, numbers: Sequence[int], seconds: float) -> Iterator[Load]:
    """Load of ``SLOTS`` slots when the study in ``place`` has so many trials."""
    for number in numbers:
        with place() as storage:
            study = optuna.create_study(study_name=STUDY, storage=storage, load_if_exists=True)
            lacking = number - len(study.get_trials(deepcopy=False))
            with ThreadPoolExecutor(SLOTS) as pool:
                list(pool.map(study.add_trial, [_finished()] * lacking))
        yield measure(kind, place, SLOTS, seconds, threads=True)


def _finished() -> optuna.trial.FrozenTrial:
    """A trial as ``_write`` leaves it."""
    names = [f"x{index}" for index in range(PARAMETERS)]
    space: dict[str, Any] = dict.fromkeys(names, optuna.distributions.FloatDistribution(0, 1))
    reports = dict.fromkeys(range(REPORTS), 0.5)
    return optuna.create_trial(
        params=dict.fromkeys(names, 0.5), distributions=space, value=0.5, intermediate_values=reports
    )


def _threads(study: optuna.Study, clients: int, seconds: float) -> list[Count]:
    counts: list[Count] = []
    workers = [threading.Thread(target=lambda: counts.append(_write(study, seconds))) for _ in range(clients)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return counts


def _processes(place: Place, clients: int, seconds: float) -> list[Count]:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["optuna", "codes.storage"])
    results, start = context.Queue(), context.Barrier(clients)
    workers = [context.Process(target=client, args=(place, start, seconds, results)) for _ in range(clients)]
    for worker in workers:
        worker.start()
    counts = [results.get(timeout=PATIENCE + 2 * seconds) for _ in workers]
    for worker in workers:
        worker.join()
    return counts


class Places:
    """Storages where there is nothing yet, all on one disk, those of PostgreSQL on one server."""

    def __init__(self, folder: Path, server: PostgresConfig) -> None:
        self.folder, self.server = folder, server

    def ours(self, kind: str) -> Ours:
        """As ``storage=kind`` configures it."""
        name = uuid.uuid4().hex
        if kind == "postgres":
            return Ours(replace(self.server, database=name))
        backend: Any = kind
        return Ours(FileStorageConfig(backend, f"{self.folder}/{name}"))

    def default(self, kind: str) -> Default:
        """As Optuna configures it."""
        name = uuid.uuid4().hex
        if kind != "postgres":
            return Default(kind, f"sqlite:///{self.folder}/{name}" if kind == "sqlite" else f"{self.folder}/{name}")
        with opened(replace(self.server, database=name)) as database:
            password = (self.folder / "postgres/password").read_text()
            address = database.address.replace("postgresql://codes", f"postgresql+psycopg2://codes:{password}")
        return Default(kind, address)


@contextmanager
def places() -> Iterator[Places]:
    """A folder and a server that end with the benchmark."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)  # as root the server runs as another user, who must be able to enter
        server = PostgresConfig(
            backend="postgres",
            mode="local",
            database="postgres",
            sslmode="prefer",
            connect_timeout=10,
            pool_size=8,
            retry_for=60,
            data_dir=str(folder / "postgres"),
            keep_running=False,
        )
        with opened(server), (folder / "postgres/data/postgresql.conf").open("a") as settings:
            settings.write("max_connections = 300\n")  # for 32 coordinators of nine each; from the next start on
        with opened(server):
            yield Places(folder, server)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, nargs="*", default=[1, 8, 32])
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement")
    parser.add_argument("--storages", nargs="+", default=KINDS, choices=KINDS)
    parser.add_argument("--finished", type=int, nargs="*", default=[1000, 2500, 5000], help="trials, for the growth")
    parser.add_argument("--output", type=Path, default=RESULTS / "storage.json")
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    print("storage   as       clients       trials/s  reports/s  errors  times default")
    with places() as new:
        for kind in arguments.storages:
            for load in _loads(kind, new, arguments):
                keep(load, arguments.output)


def keep(load: Load, path: Path) -> None:
    """Put ``load`` among the results, in the place of an earlier one of its kind."""
    kept = json.loads(path.read_text()) if path.exists() else {}
    name = (
        f"{load.storage} {'default' if load.default else 'ours'}, {load.clients} {_who(load)}, {load.finished} trials"
    )
    facts = {**circumstances(), "optuna": optuna.__version__}
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(kept | {name: asdict(load) | facts}, indent=1) + "\n")


def _loads(kind: str, new: Places, arguments: argparse.Namespace) -> Iterator[Load]:
    for threads in (True, False):
        for clients in arguments.clients:
            if clients == 1 and not threads:
                continue  # one thread is one process
            default, ours = compare(kind, [new.default(kind), new.ours(kind)], clients, arguments.seconds, threads)
            print(_line(default))
            print(_line(ours), f"{ours.reports_per_second / max(default.reports_per_second, 1e-9):14.1f}", flush=True)
            yield from (default, ours)
    for load in grow(kind, new.ours(kind), arguments.finished, arguments.seconds):
        print(_line(load), f" with {load.finished} finished trials", flush=True)
        yield load


def _who(load: Load) -> str:
    return "slots" if load.threads else "processes"


def _line(load: Load) -> str:
    who = f"{load.clients} {_who(load)}"
    how = "default" if load.default else "ours"
    rates = f"{load.trials_per_second:9.1f}  {load.reports_per_second:9.0f}"
    return f"{load.storage:9} {how:8} {who:12} {rates}  {load.errors:6}"


if __name__ == "__main__":
    main()
