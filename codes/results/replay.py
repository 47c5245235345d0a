"""A trial again: the config that ``train.py`` takes to repeat it, from what its study keeps."""

import copy
import shlex
from dataclasses import fields
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from optuna.trial import FrozenTrial, TrialState

from codes import arguments
from codes.bounds import key_of
from codes.errors import UserError
from codes.files import write_atomically
from codes.limits import seed_after
from codes.results.opening import Kept
from codes.schema import SURROGATE_SCHEMAS, TrainConfig, TrainRunConfig
from codes.tuning.ledger import outcome_of, record_of
from codes.tuning.outcomes import Outcome

# Every key of the trial has its value below. The first line brings what is not of the trial (Hydra's own section), the
# next makes the types those of its surrogate; no promoted value is to come in between.
DEFAULTS = """\
defaults:
  - /train
  - override /surrogate: {surrogate}
  - override /optimal: 'off'
  - _self_

"""


def trial_config(kept: Kept, trial: FrozenTrial) -> DictConfig:
    """What ``trial`` was trained with: a typed ``TrainRunConfig`` without interpolations, the data's folder excepted.

    It has the trial's number of threads and kind of gradients, and so gives the same value, as :func:`exactness` says.
    Its ``device`` is the CPU if the trial had one, else ``auto``.

    Raises:
        UserError: the trial has not been started, or does not fit the study's present search space.
    """
    if trial.state is TrialState.WAITING or outcome_of(trial) is Outcome.LEFT_OUT:
        why = "has not been started" if trial.state is TrialState.WAITING else "is in a backup of the study only"
        raise UserError(f"trial {trial.number} of {kept.name} {why}")
    config, record = copy.deepcopy(kept.config), record_of(trial)
    config.trainer.gradients = record.get("gradients") or config.trainer.gradients
    for name, value in trial.params.items():
        OmegaConf.update(config, key_of(name), value)
    if record.get("device", "cpu") != "cpu" or record.get("together", 1) > 1:
        config.trainer.gradients = "float32"  # which stacks and GPUs multiply in, whatever it says
    config.seed = record.get("seed", seed_after(config.seed, trial.number))
    config.trainer.threads = record.get("threads", config.trainer.threads)
    config.device = "cpu" if record.get("device") == "cpu" else "auto"
    plain = {field.name: _plain(config, field.name) for field in fields(TrainConfig)}
    plain["dataset"]["data_dir"] = _raw(config.dataset)["data_dir"]  # the environment may name another folder by now
    own = {"training_id": f"{kept.name}_{trial.number}", "devices": ["auto"]}
    return _typed({**plain, **own}, config.surrogate.name)


def exactness(trial: FrozenTrial) -> str:
    """How near a training from ``trial_config`` comes: bit for bit if the trial had a CPU, and no others beside it."""
    record = record_of(trial)
    exact = record.get("device") == "cpu" and record.get("together", 1) == 1
    return "to the same accuracy" if exact else "to the same accuracy but for rounding"


def config_text(kept: Kept, trial: FrozenTrial) -> str:
    """``trial_config`` as a file for ``python train.py --config-dir <its folder> --config-name <its name>``."""
    config = trial_config(kept, trial)
    plain = {key: value for key, value in _raw(config).items() if key != "devices"}  # of jobs of a multirun
    header = f"# Trial {trial.number} of the study {kept.name}, as it was trained{_came_to(kept, trial)}.\n"
    return header + DEFAULTS.format(surrogate=config.surrogate.name) + OmegaConf.to_yaml(OmegaConf.create(plain))


def write_config(kept: Kept, trial: FrozenTrial) -> tuple[Path, str]:
    """Write ``trial_<number>.yaml`` into the study's folder; its path, and the command that trains from it."""
    path = write_atomically(kept.folder / f"trial_{trial.number}.yaml", config_text(kept, trial))
    return path, train_command(path)


def train_command(path: Path) -> str:
    """The command that trains from a file with ``config_text``."""
    return shlex.join(
        ["python", arguments.script("train.py"), "--config-dir", str(path.parent), "--config-name", path.stem]
    )


def _came_to(kept: Kept, trial: FrozenTrial) -> str:
    if outcome_of(trial) is not Outcome.COMPLETE:
        return ""
    pairs = zip(kept.objective.metrics, trial.values, strict=True)
    return ": " + ", ".join(f"{name} {value!r}" for name, value in pairs) + " (test)"


def _plain(config: DictConfig, name: str) -> Any:
    value = config[name]
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value


def _raw(config: DictConfig) -> dict[str, Any]:
    raw: Any = OmegaConf.to_container(config, resolve=False)
    return dict(raw)


def _typed(plain: dict[str, Any], surrogate: str) -> DictConfig:
    base = OmegaConf.structured(TrainRunConfig)
    base.surrogate = SURROGATE_SCHEMAS[surrogate]
    typed = OmegaConf.merge(base, plain)
    assert isinstance(typed, DictConfig)
    return typed
