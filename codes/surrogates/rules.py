"""Rules that hyperparameters obey: types come from the schema, bounds from the family."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin, get_type_hints

from omegaconf import MISSING

from codes.errors import UserError
from codes.schema import SurrogateConfig


@dataclass(frozen=True)
class Rule:
    """A condition on a value and its wording, which completes "must be ..."."""

    text: str
    holds: Callable[[Any], bool]


def at_least(low: float) -> Rule:
    return Rule(f"at least {low}", lambda value: value >= low)


def above(low: float) -> Rule:
    return Rule(f"greater than {low}", lambda value: value > low)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


_TYPE_RULES = {
    int: Rule("an integer", lambda value: isinstance(value, int) and not isinstance(value, bool)),
    float: Rule("a finite number", _is_number),
    bool: Rule("true or false", lambda value: isinstance(value, bool)),
    str: Rule("a string", lambda value: isinstance(value, str)),
}


def _type_rule(hint: Any) -> Rule:
    if get_origin(hint) is Literal:
        options = get_args(hint)
        return Rule(f"one of {', '.join(options)}", lambda value: value in options)
    return _TYPE_RULES[hint]


def check_config(config: SurrogateConfig, bounds: Mapping[str, Rule]) -> None:
    """Check the type of every hyperparameter against its dataclass, and its value against ``bounds``.

    Raises:
        UserError: names the key, the rule and the value.
    """
    for key, hint in get_type_hints(type(config)).items():
        value = getattr(config, key)
        if value == MISSING:
            raise UserError(f"surrogate.{key}: must be set; conf/surrogate/{config.name}.yaml holds the defaults")
        rules = [_type_rule(hint)] + ([bounds[key]] if key in bounds else [])
        for rule in rules:
            if not rule.holds(value):
                raise UserError(f"surrogate.{key}: must be {rule.text} but got {value!r}")
