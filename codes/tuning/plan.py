"""Everything about a study that can be known, and refused, before anything is written or started."""

import inspect
import logging
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hydra
import optuna
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import BasePruner, HyperbandPruner
from optuna.samplers import BaseSampler, GPSampler

from codes.errors import UserError
from codes.limits import COUNT, NOT_NEGATIVE, SEED, Limit, check_value, limit_of, seed_after
from codes.resolvers import device_slot
from codes.schema import TrainerConfig, TuneConfig
from codes.tuning.entries import read_space
from codes.tuning.objective import Objective, check_pruner, read_objective
from codes.tuning.population import Population, read_population
from codes.tuning.samplers import GridSampler, most_points
from codes.tuning.slots import resolve_devices
from codes.tuning.space import Space

KINDS = {"sampler": BaseSampler, "pruner": BasePruner}
OURS = "codes.tuning."
TYPES = {"int": int, "float": float, "bool": bool, "str": str}  # of arguments, as Optuna's signatures have them
LIMITS = {"seed": SEED, "n_ei_candidates": COUNT, "popsize": Limit(2), "bootstrap_count": NOT_NEGATIVE}  # of arguments
MANY_FOR_GP = 100  # trials

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """A checked study. Every trial starts from ``config``; ``folder`` keeps what they leave; one device is one slot.

    ``to_beat`` says which errors are no better than none: those of the mean training trajectory on ``test``.
    """

    name: str
    config: DictConfig
    space: Space
    objective: Objective
    pruner: BasePruner
    population: Population
    devices: tuple[str, ...]
    folder: Path
    to_beat: str = ""

    def sampler(self, launch: int) -> BaseSampler:
        """A sampler for the ``launch``-th launch of the study; with the seed of another it would propose the same.

        Raises ``UserError`` where a grid has fewer points than trials are asked for, now that the data has been seen.
        """
        sampler = _sampler(self.config, self.space, launch)
        if isinstance(sampler, GridSampler):
            _check_grid(len(sampler.points), self.config.trials)
        return sampler


def plan_study(config: DictConfig) -> Plan:
    """Check ``config``, a composed ``TuneConfig``; raises ``UserError`` with the key, the rule and the value.

    Where ``trials`` is null or left out it becomes 15 for each tuned parameter, before anything looks at it.
    """
    for key in ("deadline", "loss_cap"):
        check_value(key, config[key], float, limit_of(TuneConfig, key))
    for key in ("max_invalid", "seed"):
        check_value(key, config[key], int, limit_of(TuneConfig, key))
    for key in ("epochs", "evaluate_every"):
        check_value(f"trainer.{key}", config.trainer[key], int, limit_of(TrainerConfig, key))
    objective, space = read_objective(config), read_space(config)
    if OmegaConf.select(config, "trials") is None:  # ~trials takes the key away
        OmegaConf.update(config, "trials", "${trial_budget:${search_space}}", force_add=True)
    check_value("trials", config.trials, int, limit_of(TuneConfig, "trials"))
    for key, kind in (("keep_models", int), ("timeout", float)):
        if config[key] is not None:
            check_value(key, config[key], kind, limit_of(TuneConfig, key))
    pruner: BasePruner = _instantiate("pruner", _plain(config, "pruner"))
    check_pruner(pruner, objective, config)
    if isinstance(pruner, HyperbandPruner):  # else slots make its brackets, at the first report, perhaps twice
        pruner._try_initialization(None)  # type: ignore[arg-type]  # which it does not need, as it is told max_resource
    sampler = _sampler(config, space, 0)
    _check_sampler(sampler, space, objective, config.trials)
    population = read_population(config, space, objective, sampler)
    devices = resolve_devices(config.devices)
    _check_device(config, devices)
    return Plan(config.study_name, config, space, objective, pruner, population, devices, Path(config.output_dir))


def _check_device(config: DictConfig, devices: Sequence[str]) -> None:
    """Refuse a ``device`` of the trainings that is not their slot's."""
    of_the_slot = OmegaConf.is_interpolation(config, "device") and config.device == device_slot()
    if not of_the_slot and {config.device} != set(devices):
        raise UserError(
            f"device: a trial trains on the device of its slot, {', '.join(dict.fromkeys(devices))}, but got "
            f"{config.device!r}; leave it out, devices=[...] chooses"
        )


def _check_sampler(sampler: BaseSampler, space: Space, objective: Objective, trials: int) -> None:
    """Refuse a sampler that cannot do its work; conditions on what only the data says are not looked at yet."""
    if isinstance(sampler, optuna.samplers.CmaEsSampler) and not objective.is_single:
        raise UserError(
            f"sampler: CmaEsSampler needs a single objective, but objective.metrics is {list(objective.metrics)}; "
            "set sampler=nsgaii"
        )
    if isinstance(sampler, GridSampler):
        _check_grid(most_points(space), trials)
    if isinstance(sampler, GPSampler) and trials > MANY_FOR_GP:
        log.warning(
            "sampler=gp gets slow: with 10 parameters it takes 0.3 s to propose a trial at 100 trials, 2 s at 500, "
            "9 s at 1,000, and slots wait for each other; for trials=%d sampler=tpe takes a hundredth of that",
            trials,
        )


def _check_grid(points: int, trials: int) -> None:
    if trials > points:
        raise UserError(
            f"trials: sampler=grid tries no point twice and has {points}, but got {trials}; set trials={points}"
        )


def _sampler(config: DictConfig, space: Space, reseed: int) -> BaseSampler:
    """The sampler that ``config`` describes, with ``reseed`` added to the seed of what it draws at random.

    A sampler with an ``independent_sampler`` of its own keeps its seed: that of a sequence which goes on.
    """
    plain = _plain(config, "sampler")
    random: Any = plain.get("independent_sampler") or plain
    if random.get("seed") is not None:
        random["seed"] = seed_after(random["seed"], reseed)
    ours = {"space": space, "config": config} if str(plain.get("_target_")).startswith(f"{OURS}samplers.") else {}
    sampler: BaseSampler = _instantiate("sampler", plain, ours)
    return sampler


def _plain(config: DictConfig, section: str) -> dict[str, Any]:
    plain: Any = OmegaConf.to_container(config[section], resolve=True)
    _check_arguments(section, plain, section)
    return plain


def _check_arguments(section: str, plain: Mapping[str, Any], path: str) -> None:
    """Refuse arguments of other types than Optuna's class declares, which it would find out in mid-study, or never.

    What is declared as an object must be described by a mapping, whose arguments are looked at too.
    """
    declared = _declared(section, str(plain.get("_target_")))
    for name, value in plain.items():
        key, options = f"{path}.{name}", declared.get(name, "").split(" | ")
        if isinstance(value, dict):
            _check_arguments(section, value, key)
        if name not in declared or (value is None and "None" in options):
            continue
        kinds = [TYPES[option] for option in options if option in TYPES]
        if len(kinds) == 1:
            check_value(key, value, kinds[0], LIMITS.get(name))
        elif not kinds and not isinstance(value, dict):
            raise UserError(f"{key}: must be null or a mapping, but got {value!r}")


def _declared(section: str, target: str) -> dict[str, str]:
    """Types of the arguments of a class of Optuna or of ours, as text; ours hand on what they do not declare."""
    if not target.startswith((f"optuna.{section}s.", f"{OURS}{section}s.")):  # refused when it is to be made
        return {}
    try:
        kind = hydra.utils.get_class(target)
    except (HydraException, ImportError, ValueError):  # so is this
        return {}
    parameters = [inspect.signature(one.__init__).parameters for one in reversed(kind.__mro__)]  # type: ignore[misc]
    return {name: inspect.formatannotation(of.annotation).strip("'") for one in parameters for name, of in one.items()}


def _instantiate(section: str, plain: dict[str, Any], ours: Mapping[str, Any] | None = None) -> Any:
    """The object that ``plain`` describes, of Optuna or of ours; ours are given what they need to know besides."""
    allowed = [f"optuna.{section}s.*", f"{OURS}{section}s.*"]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            make = hydra.utils.instantiate(plain, _partial_=bool(ours), _execution_whitelist_=allowed)
            made = make(**ours) if ours else make
    except (HydraException, TypeError, ValueError) as error:  # the last two are Optuna's, on bad arguments
        raise UserError(f"{section}: {error}") from error
    if not isinstance(made, KINDS[section]):
        raise UserError(f"{section}._target_ must be a class of optuna.{section}s, but is {plain.get('_target_')}")
    return made
