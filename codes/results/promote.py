"""Make a trial the default of its dataset and surrogate: a file ``conf/optimal/<dataset>/<Surrogate>.yaml``."""

import platform
from collections.abc import Mapping
from dataclasses import fields
from datetime import datetime
from pathlib import Path
from typing import Any

import pooch
import yaml
from omegaconf import OmegaConf
from optuna.trial import FrozenTrial

from codes.bounds import key_of
from codes.errors import UserError
from codes.files import write_atomically
from codes.groups import CONF
from codes.metrics import unit_of
from codes.results.opening import Kept, compose_tune
from codes.results.replay import trial_config
from codes.results.scores import scores
from codes.schema import TrainerConfig
from codes.tuning.changes import flat
from codes.tuning.models import PROMOTED
from codes.tuning.tables import table
from codes.versions import version_of

WHERE_DATA_LIE = ("data_dir", "content", "n_parameters")  # nothing that a training depends on
CARRIED = ("surrogate", "trainer")  # sections that the file can hold


def promote(kept: Kept, trial: FrozenTrial, conf: Path = CONF) -> tuple[Path, str]:
    """Write the hyperparameters of ``trial`` as defaults of its dataset and surrogate into the folder ``conf``.

    The file has every hyperparameter of the surrogate, and those of the trainer that were tuned; where they come from,
    and what they came to on ``test`` and on ``val``, stands above them. A file that is there is kept beside it, under a
    name that is no choice of the group. The model of ``trial`` is never removed from now on.

    Returns:
        The file, and a table of what it changes, with the scores that stand in the one that it replaces.

    Raises:
        UserError: the file could not say all that the trial depends on, or its model is not kept.
    """
    config = trial_config(kept, trial)
    _check_nothing_lost(kept, trial, conf)
    path = conf / "optimal" / config.dataset.name / f"{config.surrogate.name}.yaml"
    values = _values(kept, trial, config)
    text = f"# @package _global_\n{_provenance(kept, trial, config)}{yaml.safe_dump(values, sort_keys=False)}"
    before, told = (flat(_read(path)), _scores_told(path)) if path.exists() else ({}, "")
    _mark(kept, trial)
    if path.exists():
        write_atomically(path.with_name(f"{path.name}.bak-{datetime.now():%Y-%m-%d_%H-%M-%S-%f}"), path.read_bytes())
    write_atomically(path, text)
    return path, _difference(before, flat(values)) + told


def _check_nothing_lost(kept: Kept, trial: FrozenTrial, conf: Path) -> None:
    """Refuse what a file of surrogate and trainer values cannot carry."""
    name = kept.config.dataset.name
    if not any((folder / "dataset" / f"{name}.yaml").exists() for folder in (conf, CONF)) or name == "hdf5":
        raise UserError(
            f"dataset {name} is not one dataset: defaults are kept for a file conf/dataset/<name>.yaml; make one for "
            "yours (docs/extending.md), and tune with dataset=<name>; or train the trial as it is, from what "
            f"python -m codes.replay trial={trial.number} writes"
        )
    searched = [] if conf == CONF else ["--config-dir", str(conf)]
    shipped: Any = OmegaConf.to_container(compose_tune([f"dataset={name}", *searched]).dataset, resolve=True)
    tuned: Any = OmegaConf.to_container(kept.config.dataset, resolve=True)
    now, then = flat(shipped), flat(tuned)
    differ = [key for key in then if key not in WHERE_DATA_LIE and then[key] != now.get(key)]
    if differ:
        said = ", ".join(f"dataset.{key}={then[key]}" for key in differ)
        raise UserError(
            f"{kept.name} was tuned with {said}, which dataset={name} does not say: they would be taken for those "
            "of other data; put that into a dataset config of its own, and tune with it"
        )
    lost = [key for key in map(key_of, trial.params) if key.split(".")[0] not in CARRIED]
    if lost:
        raise UserError(f"{kept.name} tuned {', '.join(lost)}, which defaults of a surrogate cannot carry")


def _values(kept: Kept, trial: FrozenTrial, config: Any) -> dict[str, Any]:
    surrogate: Any = OmegaConf.to_container(config.surrogate, resolve=True)
    values: dict[str, Any] = {"surrogate": {name: surrogate[name] for name in surrogate if name != "name"}}
    tuned = {key_of(name).removeprefix("trainer.") for name in trial.params if key_of(name).startswith("trainer.")}
    trainer = {field.name: config.trainer[field.name] for field in fields(TrainerConfig) if field.name in tuned}
    return {**values, "trainer": trainer} if trainer else values


def _provenance(kept: Kept, trial: FrozenTrial, config: Any) -> str:
    """Comment lines: which trial, what it came to, on which data, with which versions, when."""
    from codes.data import locate

    both = scores(kept, trial)
    pairs = zip(kept.objective.metrics, trial.values, strict=True)
    dataset: Any = OmegaConf.to_object(config.dataset)
    units = {name: unit_of(name, dataset.log10_transform) for name in kept.objective.metrics}
    found = ", ".join(f"{name} {value:.6g} {units[name]}".rstrip() for name, value in pairs)
    data = locate(dataset)
    lines = [
        f"Promoted by codes.promote on {datetime.now():%Y-%m-%d}: trial {trial.number} of the study {kept.name}.",
        f"Chosen by: {found}.",
        *(f"{split}: " + ", ".join(f"{name} {value:.6g}" for name, value in both[split].items()) for split in both),
        "test chose these values; val is the score on trajectories that no choice has seen.",
        f"Trained with trainer.epochs={config.trainer.epochs} trainer.batch_size={config.trainer.batch_size}.",
        f"Data: {data.name}, sha256 {pooch.file_hash(str(data))}.",
        ", ".join(f"{name} {version_of(name)}" for name in ("codes", "torch", "optuna"))
        + f", Python {platform.python_version()}.",
    ]
    return "".join(f"# {line}\n" for line in lines)


def _mark(kept: Kept, trial: FrozenTrial) -> None:
    """Keep the model of ``trial`` for good."""
    promoted = kept.study.user_attrs.get(PROMOTED, [])
    if trial.number not in promoted:
        kept.study.set_user_attr(PROMOTED, [*promoted, trial.number])


def _read(path: Path) -> dict[str, Any]:
    """Values of a file of the group ``optimal``, by section; published ones have those of the surrogate only."""
    text = path.read_text()
    values = yaml.safe_load(text) or {}
    return {"surrogate": values} if "# @package surrogate" in text else values


def _scores_told(path: Path) -> str:
    """What a promoted file says that it came to; nothing of one that was published."""
    lines = path.read_text().splitlines()
    return "".join(f"\n  before, {line[2:]}" for line in lines if line.startswith(("# test: ", "# val: ")))


def _difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    keys = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    if not keys:
        return "  the same values as before"
    return table(("key", "before", "now"), [(key, str(before.get(key, "-")), str(now.get(key, "-"))) for key in keys])
