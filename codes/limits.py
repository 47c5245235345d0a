"""What a value of a config must be: its type and its legal range, both declared in ``codes/schema.py``.

Hydra checks the types of what it composes. Ranges, and the types of configs that come from elsewhere, are checked here.
"""

import math
from dataclasses import dataclass, field, fields
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from omegaconf import MISSING

from codes.errors import UserError


@dataclass(frozen=True)
class Limit:
    """Interval from ``low`` to ``high``; ``above`` and ``below`` say that an end itself is not allowed."""

    low: float
    high: float = math.inf
    above: bool = False
    below: bool = False

    def holds(self, value: float) -> bool:
        """Whether ``value`` is finite and inside."""
        low = value > self.low if self.above else value >= self.low
        high = value < self.high if self.below else value <= self.high
        return math.isfinite(value) and low and high

    def __str__(self) -> str:
        low = f"greater than {self.low}" if self.above else f"at least {self.low}"
        if self.high == math.inf:
            return low
        return f"{low} and {'less than' if self.below else 'at most'} {self.high}"


POSITIVE = Limit(0, above=True)
NOT_NEGATIVE = Limit(0)
COUNT = Limit(1)
PORT = Limit(1, 65535)
SEED = Limit(0, 2**32, below=True)  # what NumPy's older generators take


def seed_after(seed: int, number: int) -> int:
    """``seed + number``, or after the last legal seed from 0 on."""
    return (seed + number) % int(SEED.high)


def limited(limit: Limit, default: Any = MISSING) -> Any:
    """A field of a config whose value lies within ``limit``."""
    return field(default=default, metadata={"limit": limit})


def limit_of(schema: type, key: str) -> Limit | None:
    """Legal range of ``key`` in the config dataclass ``schema``, if it has one."""
    return next((item.metadata.get("limit") for item in fields(schema) if item.name == key), None)


def check(config: Any, section: str) -> None:
    """Check type and range of every single value of a config dataclass, called ``section`` in messages.

    Raises:
        UserError: names the key, the rule and the value.
    """
    hints = get_type_hints(type(config))
    for item in fields(config):
        check_value(f"{section}.{item.name}", getattr(config, item.name), hints[item.name], item.metadata.get("limit"))


def check_value(key: str, value: Any, hint: Any, limit: Limit | None = None) -> None:
    """Check one value against its type and range; null is fine where the type is optional."""
    if get_origin(hint) in (Union, UnionType):
        if value is None:
            return
        hint = next(option for option in get_args(hint) if option is not type(None))
    if value == MISSING:
        raise UserError(f"{key}: must be set; its default is in conf/")
    problem = _wrong_type(value, hint) or (None if limit is None or limit.holds(value) else str(limit))
    if problem:
        raise UserError(f"{key}: must be {problem} but got {value!r}")


def _wrong_type(value: Any, hint: Any) -> str | None:
    """What ``value`` must be if it is not; containers and nested configs are not looked into."""
    if get_origin(hint) is Literal:
        options = get_args(hint)
        return None if value in options else f"one of {', '.join(options)}"
    if hint is float:
        number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        return None if number else "a finite number"
    if isinstance(value, str) and "\0" in value:
        return "without NUL"
    names = {int: "an integer", bool: "true or false", str: "a string"}
    return names[hint] if hint in names and type(value) is not hint else None
