"""Which parameters a condition looks at, and an order in which every condition finds its parents sampled."""

import re
from collections.abc import Sequence
from dataclasses import is_dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Literal, get_args, get_origin, get_type_hints

from omegaconf import DictConfig, OmegaConf

from codes.errors import UserError, did_you_mean
from codes.tuning.space import SECTION, Parameter

# The innermost ${key} of an interpolation: no resolver call (a colon), nothing nested (braces).
REFERENCE = re.compile(r"\$\{\s*([^${}:]*?)\s*\}")

# A key that is compared with a value, or with several.
COMPARED = re.compile(r"\$\{\s*(?:eq|ne|in)\s*:\s*\$\{\s*([\w.]+)\s*\}\s*,\s*(\[[^\[\]]*\]|[^\[\],{}$]*)\}")


def parents_first(parameters: Sequence[Parameter], config: DictConfig) -> list[Parameter]:
    """``parameters`` in an order of sampling, otherwise as given; refuses unknown references and cycles."""
    parents = {parameter.key: parents_of(parameter, parameters, config) for parameter in parameters}
    sorter = TopologicalSorter(parents)
    try:
        sorter.prepare()
    except CycleError as error:
        names = {parameter.key: parameter.name for parameter in parameters}
        cycle = " -> ".join(names[key] for key in error.args[1])
        raise UserError(f"{SECTION}: the conditions (when) must not form a cycle, but {cycle} does") from error
    ordered: list[Parameter] = []
    left = list(parameters)
    while left:
        done = {parameter.key for parameter in ordered}
        ready = next(parameter for parameter in left if parents[parameter.key] <= done)
        left.remove(ready)
        ordered.append(ready)
    return ordered


def parents_of(parameter: Parameter, parameters: Sequence[Parameter], config: DictConfig) -> set[str]:
    """Keys of those of ``parameters`` that the condition of ``parameter`` looks at, also through other keys."""
    if not isinstance(parameter.when, str):
        return set()
    reached = _references(parameter.when, config, f"{SECTION}.{parameter.name}.when", set())
    return {
        other.key
        for other in parameters
        if any(f"{other.key}.".startswith(f"{key}.") or f"{key}.".startswith(f"{other.key}.") for key in reached)
    }


def check_values(parameter: Parameter, config: DictConfig) -> None:
    """Refuse a condition that compares a key with a value that its schema never lets it have."""
    for key, text in COMPARED.findall(str(parameter.when)):
        section, _, leaf = key.rpartition(".")
        schema = OmegaConf.get_type(config, section) if section else None
        hint = get_type_hints(schema).get(leaf) if is_dataclass(schema) else None
        if get_origin(hint) is not Literal:
            continue
        values = [value.strip(" \t'\"") for value in text.strip("[] ").split(",")]
        for value in values:
            if value not in get_args(hint):
                raise UserError(
                    f"{SECTION}.{parameter.name}.when: {key} is never {value!r}; "
                    f"its values are {', '.join(get_args(hint))}"
                )


def _references(text: str, config: DictConfig, where: str, seen: set[str]) -> set[str]:
    """Absolute keys that the interpolations in ``text`` look at, followed through interpolations in the config."""
    for key in REFERENCE.findall(text):
        if key in seen:
            continue
        _check_known(key, config, where)
        seen.add(key)
        section, _, leaf = key.rpartition(".")
        parent = OmegaConf.select(config, section) if section else config
        if OmegaConf.is_interpolation(parent, leaf):
            raw = OmegaConf.to_container(parent, resolve=False)
            assert isinstance(raw, dict)
            _references(str(raw[leaf]), config, where, seen)
    return seen


def _check_known(key: str, config: DictConfig, where: str) -> None:
    if key.startswith(".") or "[" in key:
        raise UserError(f"{where}: write the full dotted name instead of ${{{key}}}, for example ${{surrogate.loss}}")
    section, _, leaf = key.rpartition(".")
    parent = OmegaConf.select(config, section) if section else config
    known = [str(field) for field in parent] if isinstance(parent, DictConfig) else []
    if leaf not in known:
        hint = did_you_mean(leaf, known)
        options = f"{section or 'the config'} has {', '.join(known)}" if known else f"there is no {section}"
        raise UserError(f"{where} looks at {key}, which is not a key of the config; {hint}{options}")
