"""A study and its files kept under another tuning_id, and a study put in the place of another; both survive a kill.

Nothing is taken away before a whole copy of it exists. The new study is prepared under a name of its own and marked as
ready; from there on the next start completes what a kill has cut short.
"""

import copy
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import optuna
from omegaconf import DictConfig, OmegaConf
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial

from codes import storage
from codes.errors import UserError
from codes.files import write_atomically
from codes.tuning.changes import KEPT, STORED, as_text, keep_config
from codes.tuning.presence import PREFIX

MARK = ".study-"  # begins the name of a file that says whose a folder is
# What a study leaves in its folder. Hydra's own files are those of the present launch.
RESULTS: tuple[str, ...] = (f"{MARK}*", "models", "certified", "tracebacks", "*.csv", "*.html", "best.yaml")
RESULTS += ("trial_*.yaml", "slot_*.log")
MODELS = ("models", "certified")
COPIED = (*RESULTS, "*.log", "*.yaml")
NAMES = ("tuning_id", "study_name", "output_dir")
PARENTS = ":parent:"  # in keys under which genetic algorithms note numbers of rows of this very study
PREPARED = ".prepared"  # after the name of a study that is to take another one's place
READY = "ready"  # user attribute of a prepared study: "migrated", or "afresh" when the old files are to go


@dataclass(frozen=True)
class Backup:
    """Where the old study is: the same command resumes it with these overrides."""

    name: str
    overrides: tuple[str, ...]
    folder: Path


def back_up(study: optuna.Study, stored: DictConfig, config: DictConfig, database: storage.Database) -> Backup:
    """Copy ``study`` and its files to where ``config`` leads with another tuning_id.

    ``stored`` is the study's own config. A kill leaves the study as it is, beside a copy that keeps no config.
    """
    for mark in _marks():
        target, overrides = _moved(config, mark)
        name, folder = target.study_name, Path(target.output_dir)
        with _opened(target, config, database) as there:
            if folder.exists() or name in optuna.get_all_study_names(there):
                continue
            kept = OmegaConf.merge(stored, OmegaConf.masked_copy(target, list(NAMES)))
            assert isinstance(kept, DictConfig)
            _copy_files(Path(config.output_dir), folder)
            copied = _create(there, name, study.directions, _attributes(study), study.get_trials(deepcopy=False))
            _copy_system_attributes(study, copied)
            keep_config(copied, kept, folder)
        write_atomically(Path(config.output_dir) / f"{STORED}{mark}", as_text(stored))
        return Backup(name, tuple(overrides), folder)
    raise AssertionError("there is always another mark")


def replace_study(
    study: optuna.Study,
    folder: Path,
    config: str,
    trials: Sequence[FrozenTrial],
    directions: Sequence[Any],
    *,
    afresh: bool,
) -> None:
    """Put a study with ``config`` (as text) and ``trials`` in the place of ``study``.

    ``afresh``: with nothing else of it, in an empty ``folder``.
    """
    backend = study._storage
    attributes = {} if afresh else _attributes(study)
    attributes[KEPT] = config
    prepared = _create(backend, _prepared(study.study_name), directions, attributes, trials)
    prepared.set_user_attr(READY, "afresh" if afresh else "migrated")
    finish_replacing(study.study_name, backend, folder)


def finish_replacing(name: str, backend: BaseStorage, folder: Path) -> None:
    """Complete a replacement that was prepared, forget one that was not; to be called while the study is claimed."""
    names = optuna.get_all_study_names(backend)
    if _prepared(name) not in names:
        return
    prepared = optuna.load_study(study_name=_prepared(name), storage=backend)
    attributes = dict(prepared.user_attrs)
    ready = attributes.pop(READY, None)
    if ready is not None:
        if ready == "afresh":
            _remove_results(folder)
        if name in names:
            optuna.delete_study(study_name=name, storage=backend)
        _create(backend, name, prepared.directions, attributes, prepared.get_trials(deepcopy=False))
    optuna.delete_study(study_name=_prepared(name), storage=backend)


def check_whole(name: str, backend: BaseStorage) -> None:
    """Raise ``UserError`` for a study that is not there because a kill came between its old and its new form."""
    names = optuna.get_all_study_names(backend)
    if name not in names and _prepared(name) in names:
        raise UserError(
            f"study {name} is being replaced, or a kill came in between; its trials are there: start it as before, and "
            "it is whole again"
        )


def _prepared(name: str) -> str:
    return f"{name}{PREPARED}"


def _create(
    backend: BaseStorage,
    name: str,
    directions: Sequence[Any],
    attributes: Mapping[str, Any],
    trials: Sequence[FrozenTrial],
) -> optuna.Study:
    study = optuna.create_study(study_name=name, storage=backend, directions=directions)
    for key, value in attributes.items():
        study.set_user_attr(key, value)
    study.add_trials(trials)
    there = len(study.get_trials(deepcopy=False))
    if there != len(trials):
        raise UserError(f"study {name}: {there} of {len(trials)} trials could be copied; nothing was removed")
    return study


def _attributes(study: optuna.Study) -> dict[str, Any]:
    """User attributes without the config; no coordinator is present in a copy."""
    return {
        key: {**value, "beat": None} if key.startswith(PREFIX) else value
        for key, value in study.user_attrs.items()
        if key != KEPT
    }


def _copy_system_attributes(study: optuna.Study, copied: optuna.Study) -> None:
    """What samplers noted, for example how far a QMC sequence has come."""
    for key, value in study._storage.get_study_system_attrs(study._study_id).items():
        if PARENTS not in key:
            copied._storage.set_study_system_attr(copied._study_id, key, value)


def _marks() -> Iterator[str]:
    stamp = time.strftime("%Y%m%d-%H%M%S")
    return (f".bak-{stamp}" if number == 1 else f".bak-{stamp}-{number}" for number in count(1))


def _moved(config: DictConfig, mark: str) -> tuple[DictConfig, list[str]]:
    """``config`` with another tuning_id, and another name and folder where those do not follow; what was set for it."""
    moved = copy.deepcopy(config)
    overrides = []
    for key in NAMES:
        if moved[key] == config[key]:
            moved[key] = f"{config[key]}{mark}"
            overrides.append(f"{key}={moved[key]}")
    return moved, overrides


@contextmanager
def _opened(target: DictConfig, config: DictConfig, database: storage.Database) -> Iterator[BaseStorage]:
    """The storage of ``target``: often the one that is open, by default another file."""
    settings = storage.settings(target)
    if settings == storage.settings(config):
        yield database.storage
        return
    with storage.opened(settings) as other:
        yield other.storage


def _copy_files(source: Path, target: Path) -> None:
    for path in {path for pattern in COPIED for path in source.glob(pattern)}:
        if path.is_dir():
            shutil.copytree(path, target / path.name, copy_function=_link if path.name in MODELS else shutil.copy2)
        else:
            target.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, target / path.name)


def _link(source: str, target: str) -> None:
    """Models are renamed into place and never written on: a second name costs no disk, where there are such names."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _remove_results(folder: Path) -> None:
    for path in {path for pattern in RESULTS for path in folder.glob(pattern)}:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
