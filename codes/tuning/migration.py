"""Trials of a study whose search space has changed, expressed in the new one.

Optuna refuses a choice that was not there before, and its samplers leave out parameters whose ranges differ between
trials. So the trials are written anew. A trial can be taken over if the new search space can produce the very config
that it was trained with. The others leave a trial ``left_out`` with their number, so that every number keeps meaning
the same trial, model folder and seed.
"""

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf
from optuna.trial import FrozenTrial, TrialState, create_trial

from codes.bounds import key_of
from codes.tuning.changes import conditions, is_read
from codes.tuning.ledger import OUTCOME, RECORD
from codes.tuning.outcomes import Outcome
from codes.tuning.space import Parameter, Space, as_override

FIXED = "fixed_params"  # Optuna's system attribute of an enqueued trial
RUNG = "completed_rung_"  # ... of one that Hyperband or successive halving has looked at
GENERATION = ":generation"  # ... of one of a genetic algorithm


class Outside(Exception):
    """The new search space cannot produce the config of a trial; the key, and why."""

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(reason)
        self.key, self.reason = key, reason


@dataclass(frozen=True)
class Migration:
    """All trials, numbered as before; ``left_out`` has the number, the key and the reason of those not taken over."""

    trials: tuple[FrozenTrial, ...]
    left_out: tuple[tuple[int, str, str], ...]
    changed: bool  # false: they are as they were

    def report(self) -> Iterator[str]:
        """Lines for the screen: how many are taken over, and for each key how many are not, with the first value."""
        yield f"{len(self.trials) - len(self.left_out)} trials are taken over, {len(self.left_out)} are left out"
        for key in dict.fromkeys(key for _, key, _ in self.left_out):
            concerned = [(number, reason) for number, other, reason in self.left_out if other == key]
            number, reason = concerned[0]
            yield f"  {len(concerned)} by {key}: trial {number}: {reason}"


def migrate(trials: Sequence[FrozenTrial], stored: DictConfig, config: DictConfig, space: Space) -> Migration:
    """``trials`` of a study with the config ``stored``, for ``space`` over ``config``."""
    moved, left_out = [], []
    for trial in trials:
        if trial.state is TrialState.FAIL and not trial.params:  # ended before it had any
            moved.append(trial)
            continue
        try:
            moved.append(_rewritten(trial, translate(_values(trial), stored, config, space), space))
        except Outside as error:
            left_out.append((trial.number, error.key, error.reason))
            moved.append(_placeholder(trial, error.reason))
    same = all(new.distributions == old.distributions for new, old in zip(moved, trials, strict=True))
    return Migration(tuple(moved), tuple(left_out), changed=bool(left_out) or not same)


def translate(values: Mapping[str, Any], stored: DictConfig, config: DictConfig, space: Space) -> dict[str, Any]:
    """Parameters in ``space`` over ``config`` that give the config that ``values`` gave over ``stored``.

    Raises ``Outside`` when there are none.
    """
    given = {key_of(name): value for name, value in values.items()}
    before = {
        key: given.get(key, OmegaConf.select(stored, key)) for key in {**conditions(stored), **conditions(config)}
    }
    after = copy.deepcopy(config)
    found: dict[str, Any] = {}
    for parameter in space:
        if not parameter.is_active(after):
            continue
        value = before[parameter.key]
        if not fits(parameter, value):
            raise Outside(parameter.name, f"{as_override(value)} is not in {parameter.range}")
        found[parameter.name] = value
        OmegaConf.update(after, parameter.key, value)
    for key, was in before.items():
        now = OmegaConf.select(after, key)
        if was != now and is_read(key, after):
            raise Outside(key, f"{as_override(was)} was trained with, now it would be {as_override(now)}")
    return found


def fits(parameter: Parameter, value: Any) -> bool:
    """Whether ``parameter`` can take ``value``: Optuna's own check."""
    if parameter.kind == "int" and not (isinstance(value, int | float) and value == int(value)):
        return False  # Optuna would cut it off
    distributions = {parameter.name: parameter.distribution}
    try:
        create_trial(state=TrialState.FAIL, params={parameter.name: value}, distributions=distributions)
    except ValueError:
        return False
    return True


def _values(trial: FrozenTrial) -> Mapping[str, Any]:
    """Values of a trial, or those that one which has not started is to have."""
    fixed: Mapping[str, Any] = trial.system_attrs.get(FIXED, {})
    return fixed if trial.state is TrialState.WAITING else trial.params


def _rewritten(trial: FrozenTrial, values: Mapping[str, Any], space: Space) -> FrozenTrial:
    new = copy.deepcopy(trial)
    new.system_attrs = dict(_survivors(trial.system_attrs))
    if trial.state is TrialState.WAITING:
        new.system_attrs[FIXED] = dict(values)
        return new
    new.params = dict(values)
    new.distributions = {parameter.name: parameter.distribution for parameter in space if parameter.name in values}
    return new


def _survivors(attributes: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """What samplers and pruners noted and may still use.

    Rungs are facts about the trial. All trials together are a genetic algorithm's first generation, from which it
    selects the next parents. The rest (CMA-ES's distribution, a grid's index) describes the old search space.
    """
    for key, value in attributes.items():
        if key.startswith(RUNG) or key == FIXED:
            yield key, value
        elif key.endswith(GENERATION) and not key.startswith("cma"):
            yield key, 0


def _placeholder(trial: FrozenTrial, reason: str) -> FrozenTrial:
    left = create_trial(state=TrialState.FAIL)
    left.number = trial.number
    if trial.state.is_finished():
        left.datetime_start, left.datetime_complete = trial.datetime_start, trial.datetime_complete
    left.user_attrs = {OUTCOME: Outcome.LEFT_OUT.value, RECORD: {"reason": reason}}
    return left
