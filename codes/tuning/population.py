"""How many trials a slot trains together, and what they share.

Trials that train together are one stacked model: they differ only in what ``codes.schema.OF_A_MEMBER`` names. The first
is proposed as any other; for the others its values of the remaining parameters are held, and the sampler proposes the
rest.
"""

import logging
from dataclasses import dataclass

from omegaconf import DictConfig

from codes.errors import UserError
from codes.schema import OF_A_MEMBER
from codes.tuning.conditions import parents_of
from codes.tuning.objective import Objective
from codes.tuning.space import Space

KEY = "slot.population"
AUTO = "auto"
MOST = 8  # trials of auto: more gain little, and the sampler learns from fewer
# Of a grid no point could be taken, and the Gaussian process proposes points that are the same once a part is held.
WHOLE_POINTS = {"GridSampler": "grid", "GPSampler": "gp"}
PAYS = 1.5  # times as many steps per second as one by one, from which auto trains together

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Population:
    """At most ``most`` trials together, with the values of the parameters ``held``; if ``auto``, only where it pays."""

    most: int
    auto: bool
    held: frozenset[str]

    def __str__(self) -> str:
        if self.most == 1:
            return "one trial at a time"
        return f"up to {self.most} trials together" + (f" where that is {PAYS:g} times as fast" if self.auto else "")


def read_population(config: DictConfig, space: Space, objective: Objective, sampler: object) -> Population:
    """``config.slot.population``, checked against what cannot go with it.

    ``auto`` then is one trial at a time, with a line that says why; a number raises ``UserError``.
    """
    value = config.slot.population
    if value != AUTO and (type(value) is not int or value < 1):
        raise UserError(f"{KEY}: must be an integer of at least 1, or {AUTO}, but got {value!r}")
    held = held_parameters(space, config)
    most = MOST if value == AUTO else value
    problem = _obstacle(objective, sampler, held) if most > 1 else None
    if problem is None:
        return Population(most, value == AUTO, held)
    if value != AUTO:
        raise UserError(f"{KEY}: must be 1 {problem}, but got {value}")
    log.warning("%s=%s: one trial at a time, %s", KEY, AUTO, problem)
    return Population(1, True, held)


def held_parameters(space: Space, config: DictConfig) -> frozenset[str]:
    """Names of the parameters that trials which train together share, parents of their conditions included."""
    keys = {parameter.key for parameter in space if parameter.key not in OF_A_MEMBER}
    for parameter in reversed(space.parameters):  # children before their parents
        if parameter.key in keys:
            keys |= parents_of(parameter, space.parameters, config)
    return frozenset(parameter.name for parameter in space if parameter.key in keys)


def _obstacle(objective: Objective, sampler: object, held: frozenset[str]) -> str | None:
    if "train_time" in objective.metrics:
        return "with train_time among the objectives: that of a trial depends on those beside it"
    name = WHOLE_POINTS.get(type(sampler).__name__)
    if held and name:
        return f"with sampler={name}, which proposes whole points: {', '.join(sorted(held))} would have to be held"
    return None
