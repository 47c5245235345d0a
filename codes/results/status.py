"""How studies are getting on: read only, nothing is locked or written."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from omegaconf import OmegaConf
from optuna.trial import FrozenTrial, TrialState

from codes import storage
from codes.metrics import with_unit
from codes.results.opening import compose_tune, study_names
from codes.results.scores import VAL
from codes.schema import FileStorageConfig, StorageConfig
from codes.tuning.changes import kept_config
from codes.tuning.front import best_trials, recommended
from codes.tuning.ledger import counts, outcome_of, record_of
from codes.tuning.objective import read_objective
from codes.tuning.outcomes import VALID, Outcome
from codes.tuning.pace import as_time
from codes.tuning.presence import Presence

FILES = {"sqlite": "study.db", "journal": "study.journal"}  # where tune.py keeps studies by default
WRONG = {Outcome.CRASHED, Outcome.FAILED, Outcome.OUT_OF_MEMORY}


@dataclass(frozen=True)
class Status:
    """One study; ``slots`` are those of the coordinators that live, ``seconds_left`` is None without any.

    ``silent`` coordinators are of other hosts or accounts: whether they live only their next heartbeats would tell.
    """

    name: str
    tuning_id: str
    valid: int
    target: int
    outcomes: dict[Outcome, int]
    running: int
    best: str
    coordinators: list[str]
    silent: int
    slots: int
    seconds_left: float | None
    last_error: str

    def row(self) -> tuple[str, ...]:
        """For a table with the columns ``COLUMNS``; empty where nothing runs, so that a column may be left out."""
        ended = ", ".join(f"{number} {outcome.value}" for outcome, number in self.outcomes.items())
        live = f"{len(self.coordinators)} with {self.slots} slots" if self.coordinators else ""
        live += f", {self.silent} of them elsewhere if alive" if self.silent else ""
        left = "" if self.seconds_left is None else as_time(self.seconds_left)
        return (
            self.name,
            f"{self.valid}/{self.target}",
            str(self.running or ""),
            live,
            left,
            self.best,
            ended,
            self.last_error,
        )

    def left(self) -> str:
        """What a coordinator that was killed, or stopped by a second Ctrl-C, has left; empty where one may live."""
        if not self.running or self.coordinators:
            return ""
        return (
            f"{self.name}: trials were running when their coordinator died or was stopped at once ({self.running}); "
            "start the study as before to go on"
        )


COLUMNS = ("study", "valid", "running", "coordinators", "ETA", "best on test", "ended", "last error")


def found_storages(root: Path) -> list[StorageConfig]:
    """Files with studies under ``root/tuned``, and a private server's in ``root/postgres``, as by default."""
    pairs = [(backend, path) for backend, name in FILES.items() for path in sorted(root.glob(f"tuned/*/{name}"))]
    found: list[StorageConfig] = [FileStorageConfig(backend, str(path)) for backend, path in pairs]  # type: ignore[arg-type]
    if (root / "postgres/data").is_dir():
        composed = compose_tune(["storage=postgres", "storage.mode=local", f"storage.data_dir='{root / 'postgres'}'"])
        server: Any = OmegaConf.to_object(composed.storage)
        found.append(server)
    return found


def statuses(config: StorageConfig, tuning_id: str | None = None) -> Iterator[Status]:
    """Of all studies in a storage, or of those of one ``tuning_id``."""
    with storage.existing(config) as database:
        for name in study_names(database):
            study = optuna.load_study(study_name=name, storage=database.storage)
            status = status_of(study)
            if status is not None and tuning_id in (None, status.tuning_id):
                yield status


def status_of(study: optuna.Study) -> Status | None:
    """Of one study; None of one that ``tune.py`` has not made."""
    config = kept_config(study, Path("."))
    if config is None:
        return None
    trials = study.get_trials(deepcopy=False)
    presence = Presence(study)
    told = presence.told()
    ended = counts(trials)
    valid = sum(ended.get(outcome, 0) for outcome in VALID)
    target = max([valid, config.trials or 0, *(entry.get("target", 0) for entry in told.values())])
    slots = sum(entry.get("slots", 0) for entry in told.values())
    spent = sum(record_of(trial).get("duration", 0.0) for trial in trials)
    left = max(0, target - valid) * spent / valid / slots if valid and slots else None
    objective = read_objective(config)
    leading = best_trials(trials, objective)
    best = ""
    if leading:
        chosen = recommended(leading, objective)
        val = study.user_attrs.get(f"{VAL}{chosen.number}", {})
        pairs = zip(objective.metrics, chosen.values, strict=True)
        best = ", ".join(_score(name, value, val) for name, value in pairs) + f" (trial {chosen.number})"
    running = sum(trial.state is TrialState.RUNNING for trial in trials)
    return Status(
        name=study.study_name,
        tuning_id=config.tuning_id,
        valid=valid,
        target=target,
        outcomes=ended,
        running=running,
        best=best,
        coordinators=[*told],
        silent=len(presence.doubtful()),
        slots=slots,
        seconds_left=left,
        last_error=_last_error(trials),
    )


def _score(name: str, value: float, val: Mapping[str, float]) -> str:
    """As on ``test``; an accuracy on ``val`` stands beside it once it is known."""
    known = f", {with_unit(name, val[name])} on val" if name in val else ""
    return f"{name} {with_unit(name, value)}{known}"


def _last_error(trials: list[FrozenTrial]) -> str:
    wrong = [trial for trial in trials if outcome_of(trial) in WRONG]
    return f"trial {wrong[-1].number}: {record_of(wrong[-1]).get('reason', '')}"[:120] if wrong else ""
