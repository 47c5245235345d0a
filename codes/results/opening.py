"""A study that is there, running or finished, opened by the overrides that ``tune.py`` takes; nothing is created."""

import copy
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import optuna
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf
from optuna.trial import FrozenTrial

from codes import resolvers, schema, storage
from codes.errors import UserError
from codes.groups import CONF
from codes.tuning.backup import PREPARED, check_whole
from codes.tuning.changes import STORED, kept_config, kept_name
from codes.tuning.objective import Objective, read_objective

CONFIG_DIR = ("--config-dir", "-cd")  # as train.py and tune.py take it

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Kept:
    """A study that is there.

    ``config`` is what it was started with, typed, whatever the command line says about it now; only where it is
    (``storage``, ``output_dir``) and where its data file is comes from the command line. ``folder`` has what its trials
    left. ``database`` is open as long as the study is.
    """

    name: str
    study: optuna.Study
    config: DictConfig
    objective: Objective
    folder: Path
    database: storage.Database

    def trials(self) -> list[FrozenTrial]:
        """Every trial so far, oldest first; not to be changed."""
        return self.study.get_trials(deepcopy=False)


def compose_tune(overrides: Sequence[str]) -> DictConfig:
    """The config that ``tune.py`` would compose of ``overrides``; also takes its ``--config-dir``."""
    schema.register()
    resolvers.register()
    folder, rest = split_config_dir(overrides)
    searched = [] if folder is None else [f"hydra.searchpath=['file://{folder}']"]
    with initialize_config_dir(str(CONF)):
        return compose("tune", overrides=[*rest, *searched])


def split_config_dir(arguments: Sequence[str]) -> tuple[Path | None, list[str]]:
    """The folder given as ``--config-dir <folder>`` or ``--config-dir=<folder>``, and the other arguments."""
    folder, rest = None, list(arguments)
    for index, argument in enumerate(arguments):
        flag, equals, value = argument.partition("=")
        if flag not in CONFIG_DIR:
            continue
        if not equals and index + 1 == len(arguments):
            raise UserError(f"{flag} needs a folder with config groups, as train.py takes it")
        folder = Path(value if equals else arguments[index + 1]).expanduser().resolve()
        rest = [*arguments[:index], *arguments[index + (1 if equals else 2) :]]
        break
    if folder is not None and not folder.is_dir():
        raise UserError(f"--config-dir: {folder} is not a folder; make it first")
    return folder, rest


def split_arguments(arguments: Sequence[str], own: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Values of a command's ``own`` keys, with their defaults, and the arguments that are overrides of ``tune.py``.

    A key whose default is text takes any text, another one what Hydra's command line reads (``k=5``, ``seeds=[1,2]``);
    the last one counts.
    """
    values, rest = dict(own), []
    for argument in arguments:
        key, equals, text = argument.partition("=")
        if not equals or key not in own:
            rest.append(argument)
        elif isinstance(own[key], str):
            values[key] = text
        else:
            values[key] = OverridesParser.create().parse_override(argument).value()
    return values, rest


def names_one(overrides: Sequence[str]) -> bool:
    """Whether ``overrides`` name one study, and not all of a tuning_id."""
    return any(text.startswith(("surrogate=", "search_space=", "study_name=")) for text in overrides)


@contextmanager
def opened_study(overrides: Sequence[str]) -> Iterator[Kept]:
    """The study that ``tune.py`` with ``overrides`` would resume.

    Says which one that is where they name no surrogate and the storage has studies of others too. Its files are taken
    from where it was started where they lead to the folder of another study, as a ``study_name`` alone does.
    Raises ``UserError`` where there is no such storage, or no such study in it, with those that there are. What fails
    in the database later, inside the ``with``, is turned into a ``UserError`` too.
    """
    composed = compose_tune(overrides)
    settings = storage.settings(composed)
    with storage.existing(settings) as database:
        kept = keep(composed.study_name, composed, database)
        if kept_name(kept.folder) not in (kept.name, None):
            stored = kept_config(kept.study, kept.folder)
            assert stored is not None
            kept = keep(kept.name, _at_home(kept.name, stored, composed), database)
        others = _other_surrogates(composed, database)
        if others and not any(text.startswith("surrogate=") for text in overrides):
            log.warning(f"study {kept.name} is taken; there are others too: {', '.join(others)}")
        yield kept


def keep(name: str, composed: DictConfig, database: storage.Database) -> Kept:
    """The study ``name`` of an open storage, whose files lie where ``composed`` says."""
    try:
        study = optuna.load_study(study_name=name, storage=database.storage)
    except KeyError:
        check_whole(name, database.storage)
        there = ", ".join(study_names(database)) or "none"
        given = " or ".join(_other_surrogates(composed, database)) or "its tuning_id and surrogate"
        raise UserError(
            f"study {name} is not in {database.address}; there are: {there}. "
            f"Give {given}, search_space=fine for a fine stage, or study_name"
        ) from None
    folder = Path(composed.output_dir)
    kept = kept_config(study, folder)
    if kept is None:
        raise UserError(f"study {name} keeps no configuration, and {folder / STORED} is missing; restore that file")
    config = _typed(kept, composed)
    return Kept(name, study, config, read_objective(config), folder, database)


def study_names(database: storage.Database) -> list[str]:
    """Names of the studies in a storage, without those that are being written to replace another."""
    return sorted(name for name in optuna.get_all_study_names(database.storage) if not name.endswith(PREPARED))


def studies(composed: DictConfig, database: storage.Database) -> Iterator[Kept]:
    """The studies of an open storage that have the ``tuning_id`` of ``composed``, each with its own folder."""
    for name in study_names(database):
        config = kept_config(optuna.load_study(study_name=name, storage=database.storage), Path(composed.output_dir))
        if config is None or config.get("tuning_id") != composed.tuning_id:
            continue
        try:
            there = _at_home(name, config, composed)
        except UserError as error:
            log.warning(f"study {name} is left out: {error}")
            continue
        yield keep(name, there, database)


def _other_surrogates(composed: DictConfig, database: storage.Database) -> list[str]:
    """Overrides ``surrogate=...`` with which ``composed`` would name another study that is there."""
    there = set(study_names(database)) - {composed.study_name}
    named = {name: OmegaConf.merge(composed, {"surrogate": {"name": name}}) for name in schema.SURROGATE_SCHEMAS}
    return [f"surrogate={name}" for name, config in named.items() if config.study_name in there]


def _typed(kept: DictConfig, composed: DictConfig) -> DictConfig:
    """``kept`` under the schemas; what is not kept, or newer than the study, is as ``composed``."""
    plain: Any = OmegaConf.to_container(kept, resolve=False)
    plain["output_dir"] = composed.output_dir
    if composed.dataset.path is not None and plain["dataset"].get("content"):  # which is checked when it is read
        plain["dataset"]["path"] = composed.dataset.path
    name = plain["surrogate"]["name"]
    if name not in schema.SURROGATE_SCHEMAS:
        raise UserError(f"surrogate {name} is unknown; choose from {', '.join(schema.SURROGATE_SCHEMAS)}")
    base = OmegaConf.structured(schema.TuneConfig)
    base.surrogate = schema.SURROGATE_SCHEMAS[name]
    for field in fields(schema.TuneConfig):
        if field.name not in plain:
            base[field.name] = composed[field.name]
    typed = OmegaConf.merge(base, plain)
    assert isinstance(typed, DictConfig)
    return typed


def _at_home(name: str, config: DictConfig, composed: DictConfig) -> DictConfig:
    """``composed`` with the folder of the study ``name``; raises ``UserError`` where that has another study's files."""
    folder = _folder(name, config, composed)
    owner = kept_name(folder)
    if owner not in (name, None):
        raise UserError(f"output_dir: {folder} is the folder of study {owner}, not of {name}; give that of {name}")
    there = copy.deepcopy(composed)
    there.output_dir = str(folder)
    return there


def _folder(name: str, config: DictConfig, composed: DictConfig) -> Path:
    """Folder of the study ``name``: as it was started, or where ``composed`` leads since it was moved."""
    given, stored = Path(composed.output_dir), Path(config.output_dir)
    moved = [given] if name == composed.study_name else []
    moved.append(given.parent / stored.name)
    return next((folder for folder in moved if kept_name(folder) == name), stored)
