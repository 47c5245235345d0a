"""Ranges around a known configuration, within what is legal: what the fine stage of tuning searches."""

import math
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, is_dataclass
from functools import reduce
from typing import Any, get_args, get_type_hints

from codes.errors import UserError
from codes.limits import Limit, check_value, limit_of
from codes.schema import SURROGATE_SCHEMAS, FineConfig, TrainConfig


@dataclass(frozen=True)
class Refined:
    """Entries of a search space by name, and why other scalars of the configuration are not among them."""

    ranges: dict[str, dict[str, Any]] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)


def refine(known: Mapping[str, Any], explore: Mapping[str, Any], factor: float, names: list[str] | None) -> Refined:
    """A range around every scalar of ``known`` that the search space ``explore`` tunes and whose condition holds.

    ``known`` has the sections of the config that the names of ``explore`` stand for, and the surrogate's name.
    ``names`` chooses; None takes all. Raises ``UserError`` for one that cannot be refined, or where nothing is left.
    """
    check_value("fine.factor", factor, float, limit_of(FineConfig, "factor"))
    refined = Refined()
    for name, entry in leaves(explore):
        if "choices" in entry or entry.get("when") is False:
            continue
        value = _value(name, known)
        bounds = None if value is None else around(value, factor, _limit(key_of(name), known["surrogate"]["name"]))
        if bounds is None:
            refined.left_out[name] = f"no range of factors around {'null' if value is None else value}"
        else:
            kind = "int" if isinstance(value, int) else "float"
            refined.ranges[name] = {"type": kind, "low": bounds[0], "high": bounds[1], "log": True}
    return _chosen(refined, names)


def around(value: float, factor: float, limit: Limit | None = None) -> tuple[float, float] | None:
    """``value / factor`` to ``value * factor`` within ``limit``, integers rounded outwards.

    An end that ``limit`` does not include gives way to the number next to it. None where fewer than two positive
    numbers are left: no factor leads away from 0.
    """
    if value <= 0:
        return None
    smallest, largest = _positive_ends(limit or Limit(0))
    low, high = max(value / factor, smallest), min(value * factor, largest)
    if isinstance(value, int):
        low, high = max(math.floor(low), math.ceil(smallest)), min(math.ceil(high), math.floor(largest))
    return (low, high) if low < high else None


def leaves(tree: Mapping[Any, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Entries of a search space with their dotted names: a mapping of mappings only is a section, not an entry."""
    for key, value in tree.items():
        name = f"{path}{key}"
        if isinstance(value, Mapping) and value and all(isinstance(child, Mapping) for child in value.values()):
            yield from leaves(value, f"{name}.")
        else:
            yield name, value


def key_of(name: str) -> str:
    """Key of the config that a name of a search space stands for: a bare one is an attribute of the surrogate."""
    return name if "." in name else f"surrogate.{name}"


def _value(name: str, known: Mapping[str, Any]) -> Any:
    try:
        return reduce(lambda section, part: section[part], key_of(name).split("."), known)
    except KeyError as error:
        raise UserError(f"explore.{name}: {key_of(name)} is not a key of the config; there is no {error}") from error


def _positive_ends(limit: Limit) -> tuple[float, float]:
    """Smallest and largest positive number that ``limit`` allows."""
    low = math.nextafter(limit.low, math.inf) if limit.above else limit.low
    high = math.nextafter(limit.high, -math.inf) if limit.below else limit.high
    return max(low, math.ulp(0.0)), min(high, sys.float_info.max)


def _limit(key: str, surrogate: str) -> Limit | None:
    """Legal range of ``key``, found by walking the dataclasses of the schema."""
    *sections, leaf = key.split(".")
    schema: Any = TrainConfig
    for section in sections:
        hint = SURROGATE_SCHEMAS[surrogate] if section == "surrogate" else get_type_hints(schema)[section]
        schema = next(option for option in (hint, *get_args(hint)) if is_dataclass(option))
    return limit_of(schema, leaf)


def _chosen(refined: Refined, names: list[str] | None) -> Refined:
    """Those of ``names``, or all; never none."""
    for name in names or ():
        if name not in refined.ranges:
            reason = refined.left_out.get(name, "not a number that is tuned and active here")
            options = ", ".join(refined.ranges) or "nothing"
            raise UserError(f"fine.parameters: {name} cannot be refined: {reason}; choose from {options}")
    ranges = {name: entry for name, entry in refined.ranges.items() if names is None or name in names}
    if not ranges:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in refined.left_out.items())
        cause = "fine.parameters is empty" if names == [] else reasons or "no number is tuned and active here"
        raise UserError(f"search_space=fine: there is nothing scalar to refine ({cause}); choose another search_space")
    return Refined(ranges, refined.left_out)
