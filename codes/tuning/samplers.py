"""Samplers that look at the search space first: an exhaustive grid, and CMA-ES of a fixed dimension."""

import copy
import itertools
import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import optuna
from omegaconf import DictConfig, OmegaConf
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.samplers._tpe import _truncnorm
from optuna.study import Study
from optuna.trial import FrozenTrial
from scipy import special

from codes.errors import UserError
from codes.tuning.conditions import parents_of
from codes.tuning.ledger import outcome_of
from codes.tuning.outcomes import VALID
from codes.tuning.space import SECTION, Parameter, Space

MOST_POINTS = 10_000  # of a grid: more are never trained, and take long to list
POINT = "grid:point"  # system attribute of a trial

# Optuna's TPE takes these logarithms one by one in Python, a third of what a trial costs its coordinator.
_truncnorm._log_ndtr = special.log_ndtr


class GridSampler(BaseSampler):
    """Every reachable point of a finite space once, in an order shuffled by ``seed``.

    Unlike Optuna's sampler of that name it lists a point once however many parameters are inactive there, takes only
    points that no valid and no running trial has, and so tries those of failed trials again, after the others.
    """

    def __init__(self, space: Space, config: DictConfig, seed: int) -> None:
        """List the points of ``space`` that conditions allow in ``config``; refuses ranges that are no grid."""
        listed = list(itertools.islice(reachable(space, config), MOST_POINTS + 1))
        if len(listed) > MOST_POINTS:
            raise UserError(f"sampler: a grid has at most {MOST_POINTS:,} points; take coarser steps or sampler=qmc")
        keys = [_key(point) for point in listed]
        self.points: list[str] = [keys[index] for index in np.random.default_rng(seed).permutation(len(keys))]

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Take a point for ``trial``; within the claim, so that no other coordinator takes it too."""
        fixed = trial.system_attrs.get("fixed_params")
        point = self._free(study, trial) if fixed is None else _key(fixed)
        study._storage.set_trial_system_attr(trial._trial_id, POINT, point)

    def _free(self, study: Study, trial: FrozenTrial) -> str:
        taken: set[str] = set()
        tried: Counter[str] = Counter()
        for other in study._storage.get_all_trials(study._study_id, deepcopy=False):
            if other.number == trial.number:
                continue
            point = other.system_attrs.get(POINT) or _key(other.params)  # without it: written anew for a changed space
            tried[point] += 1
            if not other.state.is_finished() or outcome_of(other) in VALID:
                taken.add(point)
        return min((point for point in self.points if point not in taken), key=lambda point: tried[point])

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Nothing: a point is taken before the trial starts."""
        return {}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Nothing, see above."""
        return {}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Value of the trial's point."""
        return json.loads(trial.system_attrs[POINT])[param_name]


class CmaEsSampler(optuna.samplers.CmaEsSampler):
    """CMA-ES over the numbers that every trial has; the others and the categorical ones come from its other sampler.

    Optuna takes what all trials so far have in common. When a condition turns false for the first time that shrinks,
    and the covariance, once kept, no longer fits: the sampler then draws at random for the rest of the study.
    """

    def __init__(self, space: Space, config: DictConfig, **settings: Any) -> None:
        super().__init__(**settings)
        self.numbers: dict[str, BaseDistribution] = {
            parameter.name: parameter.distribution
            for parameter in space
            if parameter.kind != "categorical" and not parents_of(parameter, space.parameters, config)
            if parameter.is_active(config)
        }
        if not self.numbers:
            raise UserError("sampler: cmaes needs a number that every trial has; try sampler=tpe")

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The same for every trial."""
        return self.numbers


def reachable(space: Space, config: DictConfig) -> Iterator[dict[str, Any]]:
    """Points of a grid over ``space``: values of the parameters that are active together, by name."""
    values = {parameter.name: grid_values(parameter) for parameter in space}
    return _extended({}, tuple(space), values, copy.deepcopy(config))


def most_points(space: Space) -> int:
    """Points of the grid if no parameter had a condition."""
    return math.prod(len(grid_values(parameter)) for parameter in space)


def grid_values(parameter: Parameter) -> Sequence[Any]:
    """Values that a grid visits; refuses a range without a step."""
    if parameter.kind == "categorical":
        return parameter.choices
    if parameter.kind == "int":
        return range(int(parameter.low), int(parameter.high) + 1, int(parameter.step or 1))
    if parameter.step is None:
        where = f"{SECTION}.{parameter.name}"
        raise UserError(
            f"{where}: sampler=grid needs choices, integers or a step, but it is the range {parameter.range}; "
            f"give values by '~{where}' '+{where}.choices=[...]', or leave it at its value by '~{where}'"
        )
    low, step = Decimal(str(parameter.low)), Decimal(str(parameter.step))
    number = round((parameter.high - parameter.low) / parameter.step) + 1
    return [float(low + index * step) for index in range(number)]


def _extended(
    point: dict[str, Any], left: Sequence[Parameter], values: Mapping[str, Sequence[Any]], config: DictConfig
) -> Iterator[dict[str, Any]]:
    """``point`` with every combination of the parameters ``left``; ``config`` has the values of ``point``."""
    if not left:
        yield point
        return
    parameter, rest = left[0], left[1:]
    if not parameter.is_active(config):
        yield from _extended(point, rest, values, config)
        return
    section, _, leaf = parameter.key.rpartition(".")
    own: Any = OmegaConf.to_container(OmegaConf.select(config, section), resolve=False)
    for value in values[parameter.name]:
        OmegaConf.update(config, parameter.key, value)
        yield from _extended({**point, parameter.name: value}, rest, values, config)
    OmegaConf.update(config, parameter.key, own[leaf])  # conditions look at it where the parameter is inactive


def _key(point: Mapping[str, Any]) -> str:
    return json.dumps(point, sort_keys=True)
