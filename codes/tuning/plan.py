"""Everything about a study that can be known, and refused, before anything is written or started."""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler

from codes.errors import UserError
from codes.limits import check_value, limit_of
from codes.schema import TuneConfig
from codes.tuning.entries import read_space
from codes.tuning.objective import Objective, check_pruner, read_objective
from codes.tuning.slots import resolve_devices
from codes.tuning.space import Space

KINDS = {"sampler": BaseSampler, "pruner": BasePruner}


@dataclass(frozen=True)
class Plan:
    """A checked study. Every trial starts from ``config``; ``folder`` keeps what they leave; one device is one slot."""

    name: str
    config: DictConfig
    space: Space
    objective: Objective
    pruner: BasePruner
    devices: tuple[str, ...]
    folder: Path

    def sampler(self, launch: int) -> BaseSampler:
        """A sampler for the ``launch``-th launch of the study; with the seed of another it would propose the same."""
        sampler: BaseSampler = _instantiate("sampler", self.config, launch)
        return sampler


def plan_study(config: DictConfig) -> Plan:
    """Check ``config``, a composed ``TuneConfig``; raises ``UserError`` with the key, the rule and the value."""
    for key in ("trials", "max_invalid", "seed"):
        check_value(key, config[key], int, limit_of(TuneConfig, key))
    objective, space = read_objective(config), read_space(config)
    pruner: BasePruner = _instantiate("pruner", config)
    check_pruner(pruner, objective, config.pruner)
    devices = resolve_devices(config.devices)
    plan = Plan(config.study_name, config, space, objective, pruner, devices, Path(config.output_dir))
    plan.sampler(0)
    return plan


def _instantiate(section: str, config: DictConfig, reseed: int = 0) -> Any:
    """The object that ``config[section]`` describes, only ever one of Optuna's; ``reseed`` is added to its seed."""
    plain: Any = OmegaConf.to_container(config[section], resolve=True)
    if plain.get("seed") is not None:
        plain["seed"] += reseed
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            made = hydra.utils.instantiate(plain, _execution_whitelist_=[f"optuna.{section}s.*"])
    except (HydraException, TypeError, ValueError) as error:  # the last two are Optuna's, on bad arguments
        raise UserError(f"{section}: {error}") from error
    if not isinstance(made, KINDS[section]):
        raise UserError(f"{section}._target_ must be a class of optuna.{section}s, but is {plain.get('_target_')}")
    return made
