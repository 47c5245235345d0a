"""Every Hydra callback. They observe and tidy up; Hydra turns their exceptions into warnings, all but `SystemExit`, by
which `Secrets`, `SweepDirection` and `NoOptimizer` refuse.

A parallel launcher sends them to the process of each job, with what ``on_multirun_start`` has set.
"""

import atexit
import itertools
import json
import logging
import multiprocessing
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from tqdm import tqdm

from codes import resolvers, secrets
from codes.arguments import typed
from codes.cli import explain
from codes.device import expand_devices
from codes.errors import UserError
from codes.files import write_atomically
from codes.metrics import with_unit
from codes.tuning.tables import table

log = logging.getLogger(__name__)
HELD: list[FileLock] = []  # until this process ends: a lock that nothing refers to is let go


class MultirunCallback(Callback):
    """Has a temporary folder that all jobs of a multirun on this host know, and that ends with it.

    So do the processes of parallel jobs, in whatever way the multirun ends.
    """

    def __init__(self) -> None:
        self.process = os.getpid()  # that of the multirun, also where a job runs in another one
        self.folder: Path | None = None

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="codes-multirun-"))
        atexit.register(shutil.rmtree, self.folder, ignore_errors=True)  # an interrupt skips the end of a multirun

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        if os.getppid() == self.process:
            end_with_parent()


class DeviceSlots(MultirunCallback):
    """Gives each process that runs jobs of a multirun one of ``devices``: ``${device_slot:}`` in the job's config.

    Devices are not checked here, where a refusal would be a warning; the job does. A job for which something goes
    wrong here finds the name of no device, and ends, instead of sharing the first one with all others.
    """

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        if config.hydra.mode is not RunMode.MULTIRUN:
            return
        super().on_job_start(config)
        resolvers.register()  # the process of a parallel job has not run the script
        os.environ[resolvers.DEVICE_SLOT_VARIABLE] = f"none of {list(config.devices)}"
        assert self.folder is not None
        slot, devices = hold_slot(self.folder), expand_devices(config.devices)
        os.environ[resolvers.DEVICE_SLOT_VARIABLE] = devices[slot % len(devices)]
        log.info("slot %d, device %s", slot, devices[slot % len(devices)])


class Secrets(Callback):
    """Keeps passwords of config files out of the files that Hydra writes, and out of the config that the task gets.

    Those of the command line never come this far. Each job of a multirun is composed anew and written before anything
    is called: there the file is masked as soon as it is written. One elsewhere than in ``storage.password`` ends the
    launch, by the one exception that Hydra lets through.

    The process of a parallel job gets them with this object, through a pipe of joblib's. Other launchers may send
    objects in files: theirs have none.
    """

    def __init__(self) -> None:
        self.by_pipe = False

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "known": secrets.known() if self.by_pipe else None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        known = state.pop("known")
        self.__dict__.update(state)
        if known is not None:
            secrets.know(known)

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        try:
            secrets.take_from_config(config)
            secrets.refuse_elsewhere(config)
        except UserError as error:
            raise SystemExit(f"error: {error}") from error

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        self.on_run_start(config)
        self.by_pipe = "joblib" in config.hydra.launcher._target_

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        if config.hydra.output_subdir is not None:
            secrets.mask_files(Path(config.hydra.runtime.output_dir) / config.hydra.output_subdir)


class SweepDirection(Callback):
    """Refuses a ``hydra.sweeper.direction`` that is not that of ``objective.metrics``, which are those of all jobs.

    An Optuna sweeper notices that their numbers differ when its first jobs have run, and never that it has no choice.
    """

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        sweeper: Any = OmegaConf.to_container(config.hydra.sweeper, resolve=True, enum_to_str=True)
        wanted = resolvers.directions(config.objective.metrics)
        given = sweeper.get("direction", wanted)
        if given != wanted and [given] != wanted:
            raise SystemExit(
                f"error: hydra.sweeper.direction: must be {wanted}, a direction for each of "
                f"objective.metrics={list(config.objective.metrics)}, but got {given!r}; leave it out"
            )
        if "optuna" not in sweeper["_target_"]:
            return
        asked = [*defaults(config.hydra.sweeper), *parse(typed(config.hydra))]
        swept = [override.get_key_element() for override in asked if override.is_sweep_override()]
        if not swept and sweeper.get("custom_search_space") is None:
            raise SystemExit(
                "error: hydra/sweeper=optuna: must have something to choose, but nothing is swept, so that all jobs "
                "would be the same; give a range, for example 'surrogate.learning_rate=tag(log,interval(1e-4,1e-2))'"
            )
        if any(key.partition(".")[0] == "objective" for key in swept):
            raise SystemExit(
                "error: objective: must be one for all jobs of hydra/sweeper=optuna, which optimises its metrics, but "
                "it is swept; choose one, or leave hydra/sweeper out"
            )


class NoOptimizer(Callback):
    """Refuses an Optuna sweeper over studies: it optimises a number, and a study returns a row of a table."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        if "optuna" in config.hydra.sweeper._target_:
            raise SystemExit(
                "error: hydra/sweeper: must be basic, for studies return no number to optimise, but got optuna; leave "
                "it out, as python tune.py is a study already, or give it to train.py -m"
            )


class WorkerProcesses(Callback):
    """Ends the processes that a job has left, in whatever way it ended: the next study has the devices to itself."""

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        left = multiprocessing.active_children()
        for process in left:
            process.kill()
        for process in left:
            process.join()
            log.warning("process %d was left by this job and is ended", process.pid)


class Summary(MultirunCallback):
    """Says which job of a multirun begins, and in the end what came out of each; a bar over all jobs on a terminal.

    What came out of a job is what its task returned: columns of a table, or the values of ``objective.metrics``.
    """

    def __init__(self, noun: str) -> None:
        super().__init__()
        self.noun = noun
        self.fixed: set[str] = set()  # keys that have one value in all jobs
        self.total: int | None = None
        self.bar: tqdm | None = None

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        super().on_multirun_start(config)
        overrides = parse(typed(config.hydra))
        self.fixed = {override.get_key_element() for override in overrides if not override.is_sweep_override()}
        self.total = number_of_jobs(config.hydra.sweeper, overrides)

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        if self.folder is None:
            return
        super().on_job_start(config)
        tqdm.set_lock(threading.RLock())  # tqdm's own is a semaphore, which a killed process leaves to others
        if self.bar is None and self.process == os.getpid():  # not in a parallel job
            self.bar = tqdm(total=self.total, desc="multirun", unit=self.noun, disable=None)
        self._keep(config, {"failure": "did not end"})
        of = f" of {self.total}" if self.total else ""
        tqdm.write(f"{self.noun} {config.hydra.job.num + 1}{of}: {self._name(config)}")
        sys.stdout.flush()  # the process of a parallel job would keep it until after the table

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        if self.folder is None:
            return
        self._keep(config, results(config, job_return))
        if self.bar is not None:
            self.bar.update()
            self.bar.clear()  # Hydra writes a line between two jobs

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        if self.folder is None:
            return
        if self.bar is not None:
            self.bar.close()
        paths = sorted(self.folder.glob("*.json"), key=lambda path: int(path.stem))
        rows = [json.loads(path.read_text()) for path in paths]
        done, failed = [row for row in rows if "failure" not in row], [row for row in rows if "failure" in row]
        for part in filter(None, (done, failed)):
            tqdm.write(f"\n{columns(part)}")
        if self.total is not None and len(rows) < self.total:
            tqdm.write(f"{self.total - len(rows)} of {self.total} did not start")

    def _keep(self, config: DictConfig, result: Mapping[str, str]) -> None:
        assert self.folder is not None
        folder = os.path.relpath(config.hydra.runtime.output_dir, config.hydra.runtime.cwd)
        row = {self.noun: self._name(config), **result, "folder": folder}
        write_atomically(self.folder / f"{config.hydra.job.num}.json", json.dumps(row))

    def _name(self, config: DictConfig) -> str:
        """What makes this job differ from the others: the overrides that the sweeper chose."""
        return " ".join(text for text in typed(config.hydra) if text.partition("=")[0] not in self.fixed)


@lru_cache(maxsize=1)
def hold_slot(folder: Path) -> int:
    """Smallest number that no other living process holds; this one holds it until it ends, in whatever way."""
    for number in itertools.count():
        lock = FileLock(folder / f"slot_{number}", thread_local=False)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            continue
        HELD.append(lock)
        break
    return number


@lru_cache(maxsize=1)
def end_with_parent() -> None:
    """From now on this process ends when its parent does: a multirun that is killed leaves no job behind."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def parse(overrides: Sequence[str]) -> list[Override]:
    """Overrides as Hydra reads them."""
    return OverridesParser.create(GlobalHydra.instance().config_loader()).parse_overrides(list(overrides))


def defaults(sweeper: DictConfig) -> list[Override]:
    """What a sweeper has for overrides that are not typed."""
    return parse([f"{key}={value}" for key, value in (sweeper.params or {}).items()])


def number_of_jobs(sweeper: DictConfig, overrides: list[Override]) -> int | None:
    """Jobs of a multirun by the arithmetic of Hydra's basic sweeper; other sweepers decide as they go."""
    if not sweeper._target_.endswith(f".{BasicSweeper.__name__}"):
        return None
    (jobs,) = BasicSweeper.split_arguments([*defaults(sweeper), *overrides], None)
    return len(jobs)


def results(config: DictConfig, job_return: JobReturn) -> dict[str, str]:
    """Columns of a job's row: what its task returned, or why it failed."""
    value = job_return._return_value  # the public property prints when the job has failed
    if job_return.status is not JobStatus.COMPLETED:
        return {"failure": cause(value)}
    if isinstance(value, Mapping):
        return {str(name): str(column) for name, column in value.items()}
    if isinstance(value, int | float | tuple):
        values = value if isinstance(value, tuple) else (value,)
        return {name: with_unit(name, number) for name, number in zip(config.objective.metrics, values, strict=True)}
    return {}


def cause(error: BaseException) -> str:
    """One line that says why a job failed."""
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    text = explain(error) if isinstance(error, Exception) else None
    lines = (text or f"{type(error).__name__}: {error}").splitlines()
    return lines[0]


def columns(rows: list[dict[str, str]]) -> str:
    """``rows`` as a table with every column that occurs, the folder last."""
    names = list(dict.fromkeys(name for row in rows for name in row if name != "folder"))
    return table([*names, "folder"], [[row.get(name, "") for name in (*names, "folder")] for row in rows])
