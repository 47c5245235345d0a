"""Writing to the storages without training: ``python -m benchmarks.storage``.

Clients (processes) ask for trials, report and tell, as fast as the storage lets them. Each storage is measured as
``storage=`` configures it and as Optuna does by default for the same database, one after the other, in the same run.
"""

import argparse
import json
import multiprocessing
import os
import platform
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend

from codes.schema import FileStorageConfig, PostgresConfig, StorageConfig
from codes.storage import opened

REPORTS = 20  # of each trial
PARAMETERS = 4
STUDY = "benchmark"


@dataclass(frozen=True)
class Load:
    """What ``clients`` clients got done in ``seconds``; ``threads`` of one process, or a process each."""

    storage: str
    default: bool  # as Optuna configures it
    threads: bool
    clients: int
    trials_per_second: float
    reports_per_second: float
    errors: int
    finished: int  # trials in the study before


def client(open_storage: Callable[[], AbstractContextManager[BaseStorage]], until: float, results: Any) -> None:
    """A process of its own that writes trials until the clock says ``until``."""
    with open_storage() as storage:
        results.put(_write(optuna.load_study(study_name=STUDY, storage=storage), until))


def _write(study: optuna.Study, until: float) -> tuple[int, int, int]:
    """Trials, reports and errors of one client."""
    study.sampler = optuna.samplers.RandomSampler()
    trials = reports = errors = 0
    while time.time() < until:
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
    return trials, reports, errors


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


def measure(
    kind: str, place: Callable[[], AbstractContextManager[BaseStorage]], clients: int, seconds: float, threads: bool
) -> Load:
    """Load of ``clients`` clients for ``seconds``, on the study in ``place``, made if it is missing."""
    with place() as storage:
        study = optuna.create_study(study_name=STUDY, storage=storage, load_if_exists=True)
        finished = len(study.get_trials(deepcopy=False))
        begin = time.time() + (0 if threads else 3)  # processes import first
        counts = _threads(study, clients, begin + seconds) if threads else _processes(place, clients, begin + seconds)
        taken = time.time() - begin
    trials, reports, errors = (sum(column) for column in zip(*counts, strict=True))
    return Load(kind, isinstance(place, Default), threads, clients, trials / taken, reports / taken, errors, finished)


def _threads(study: optuna.Study, clients: int, until: float) -> list[tuple[int, int, int]]:
    counts: list[tuple[int, int, int]] = []
    workers = [threading.Thread(target=lambda: counts.append(_write(study, until))) for _ in range(clients)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return counts


def _processes(place: Any, clients: int, until: float) -> list[tuple[int, int, int]]:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["benchmarks.storage"])
    results = context.Queue()
    workers = [context.Process(target=client, args=(place, until, results)) for _ in range(clients)]
    for worker in workers:
        worker.start()
    counts = [results.get() for _ in workers]
    for worker in workers:
        worker.join()
    return counts


@contextmanager
def places(folder: Path) -> Iterator[dict[str, tuple[Ours, Default]]]:
    """Each kind of storage, as we and as Optuna configure it, both on the same disk, server and settings."""
    server = PostgresConfig(
        backend="postgres",
        mode="local",
        database="ours",
        sslmode="prefer",
        connect_timeout=10,
        pool_size=4,
        retry_for=60,
        data_dir=str(folder / "postgres"),
        keep_running=False,
    )
    with opened(server), opened(replace(server, database="default")) as database:
        password = (folder / "postgres/password").read_text()
        address = database.address.replace("postgresql://codes", f"postgresql+psycopg2://codes:{password}")
        yield {
            "sqlite": (
                Ours(FileStorageConfig("sqlite", f"{folder}/ours.db")),
                Default("sqlite", f"sqlite:///{folder}/default.db"),
            ),
            "postgres": (Ours(server), Default("postgres", address)),
            "journal": (
                Ours(FileStorageConfig("journal", f"{folder}/ours.journal")),
                Default("journal", f"{folder}/default.journal"),
            ),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--storages", nargs="+", default=["sqlite", "postgres", "journal"])
    parser.add_argument("--grow", type=int, default=0, help="also show the rates with up to so many finished trials")
    parser.add_argument("--output", type=Path, help="write the numbers as JSON")
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with tempfile.TemporaryDirectory() as name, places(_for_everybody(Path(name))) as kinds:
        loads = list(_loads(kinds, options))
    if options.output:
        facts = {"python": platform.python_version(), "cores": os.cpu_count(), "optuna": optuna.__version__}
        options.output.write_text(json.dumps({**facts, "loads": [asdict(load) for load in loads]}, indent=1) + "\n")


def _loads(kinds: dict[str, tuple[Ours, Default]], options: argparse.Namespace) -> Iterator[Load]:
    print("storage   as       clients       trials/s  reports/s  errors  times default")
    for kind in options.storages:
        for threads in (True, False):
            for clients in options.clients:
                default = measure(kind, kinds[kind][1], clients, options.seconds, threads)
                ours = measure(kind, kinds[kind][0], clients, options.seconds, threads)
                for load in (default, ours):
                    ratio = load.reports_per_second / max(default.reports_per_second, 1e-9)
                    print(_line(load), f"{ratio:14.1f}", flush=True)
                    yield load
        while options.grow:
            load = measure(kind, kinds[kind][0], 8, options.seconds, True)
            print(_line(load), f"with {load.finished} finished trials", flush=True)
            yield load
            if load.finished >= options.grow:
                break


def _line(load: Load) -> str:
    who = f"{load.clients} {'slots' if load.threads else 'processes'}"
    how = "default" if load.default else "ours"
    rates = f"{load.trials_per_second:9.1f}  {load.reports_per_second:9.0f}"
    return f"{load.storage:9} {how:8} {who:12} {rates}  {load.errors:6}"


def _for_everybody(folder: Path) -> Path:
    """As root the server runs as another user, who must be able to enter."""
    folder.chmod(0o755)
    return folder


if __name__ == "__main__":
    main()
