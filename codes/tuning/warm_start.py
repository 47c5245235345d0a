"""Warm start: configurations that are known to be good are the first trials of a study."""

import copy
import math
from collections.abc import Mapping
from typing import Any

import optuna
from omegaconf import DictConfig, OmegaConf

from codes.errors import UserError
from codes.tuning.space import Parameter, Space, as_override

KNOWN = "known"  # user attribute of a trial: which of the known configurations it tries


def enqueue_known(study: optuna.Study, space: Space, config: DictConfig, known: Mapping[str, DictConfig]) -> list[str]:
    """Have the tuned parameters of each of the ``known`` configurations tried first, in their order.

    Everything else of such a trial is the study's: ``config``, which also decides, as for any other trial, which
    parameters are active. A configuration with a value that the space does not have is left out, and one like another.

    Args:
        study: Without trials, or with those that are to be known already.
        known: Composed configurations by what they are called on the screen.

    Returns:
        Lines that say what goes first, and what does not, because of which key, value and range.
    """
    lines: list[str] = []
    queued: list[dict[str, Any]] = []
    for name, values in known.items():
        try:
            parameters = _parameters(space, config, values)
        except UserError as error:
            lines.append(f"not tried first: {name}, {error}")
            continue
        if parameters not in queued:
            queued.append(parameters)
            study.enqueue_trial(parameters, user_attrs={KNOWN: name}, skip_if_exists=True)
            lines.append(f"tried first: {name}")
    return lines


def _parameters(space: Space, config: DictConfig, known: DictConfig) -> dict[str, Any]:
    """Value of every parameter that is active with the values of ``known``; parents come first."""
    tried = copy.deepcopy(config)
    parameters: dict[str, Any] = {}
    for parameter in space:
        if parameter.is_active(tried):
            parameters[parameter.name] = _value(parameter, OmegaConf.select(known, parameter.key))
            OmegaConf.update(tried, parameter.key, parameters[parameter.name])
    return parameters


def _value(parameter: Parameter, value: Any) -> Any:
    """``value`` as the space has it; refuses one that it does not have."""
    if parameter.kind == "categorical":
        for choice in parameter.choices:
            if choice == value and isinstance(choice, bool) == isinstance(value, bool):
                return choice
    elif _is_inside(parameter, value):
        return value
    raise UserError(f"{parameter.key}={as_override(value)} is outside {parameter.range}")


def _is_inside(parameter: Parameter, value: Any) -> bool:
    if value is None or not parameter.low <= value <= parameter.high:
        return False
    steps = (value - parameter.low) / (parameter.step or 1)
    is_grid = parameter.kind == "int" or parameter.step is not None
    return not is_grid or math.isclose(steps, round(steps), abs_tol=1e-8)
