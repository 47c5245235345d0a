"""Reading a search space: every entry is checked against the config that it is to change, before the first trial."""

import copy
import math
import re
from collections.abc import Mapping
from dataclasses import is_dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from codes.bounds import key_of, leaves
from codes.errors import UserError, did_you_mean
from codes.limits import limit_of
from codes.resolvers import OPERATORS
from codes.tuning.conditions import check_values, parents_first
from codes.tuning.space import SECTION, Kind, Parameter, Space

SECTIONS = ("surrogate", "trainer", "dataset")  # of the config, where tuned keys may lie
RANGE = {"low", "high", "log", "step"}
FIELDS = {"type", "when", "choices"} | RANGE
IN_A_RESOLVER = re.compile(r"^\w+ raised while resolving interpolation: (?:\S+\(\) )?")
KINDS: tuple[Kind, ...] = ("float", "int", "categorical")


def read_space(config: DictConfig) -> Space:
    """``config.search_space`` as typed parameters; raises ``UserError`` with the key, the rule and the value."""
    scratch = copy.deepcopy(config)
    parameters = [_read(name, entry, scratch) for name, entry in leaves(plain_space(config))]
    if not parameters:
        example = f"'+{SECTION}.learning_rate={{low: 1e-4, high: 1e-2}}'"
        raise UserError(f"{SECTION} is empty; add a parameter, for example {example}")
    _check_duplicates(parameters)
    ordered = parents_first(parameters, config)
    for parameter in ordered:
        check_values(parameter, config)
        _check_condition(parameter, config)
    return Space(tuple(ordered))


def plain_space(config: DictConfig) -> dict[str, Any]:
    """``config.search_space`` with the values of its interpolations; conditions, of each trial, are as they stand."""
    tree: Any = {} if config[SECTION] is None else OmegaConf.to_container(config[SECTION], resolve=False)
    return {str(name): _valued(entry, f"{SECTION}.{name}", config) for name, entry in tree.items()}


def _valued(node: Any, path: str, config: DictConfig) -> Any:
    if isinstance(node, Mapping):
        return {key: each if key == "when" else _valued(each, f"{path}.{key}", config) for key, each in node.items()}
    if isinstance(node, list):
        return [_valued(each, f"{path}[{index}]", config) for index, each in enumerate(node)]
    if not isinstance(node, str) or "${" not in node:
        return node
    found = OmegaConf.select(config, path, throw_on_missing=True)
    return OmegaConf.to_container(found, resolve=False) if OmegaConf.is_config(found) else found


def _read(name: str, entry: Any, config: DictConfig) -> Parameter:
    where = f"{SECTION}.{name}"
    if not isinstance(entry, Mapping):
        raise UserError(f"{where} must be a mapping with low and high, or choices, but is {entry!r}")
    unknown = [str(field) for field in entry if field not in FIELDS]
    if unknown:
        raise UserError(f"{where}.{unknown[0]} is not a field of a parameter; choose from {', '.join(sorted(FIELDS))}")
    key = _find_key(name, config)
    when = entry.get("when")
    if not (when is None or isinstance(when, str | bool)):
        raise UserError(f"{where}.when must be an interpolation or true or false, but is {when!r}")
    kind = _kind(where, key, entry, config)
    if kind == "categorical":
        return Parameter(name, key, kind, choices=_choices(where, key, entry, config), when=when)
    return _read_range(where, Parameter(name, key, kind, when=when), entry, config)


# Trials that differ in one of them could not be compared.
OF_THE_STUDY = {"surrogate.name"}
OF_THE_STUDY |= {f"trainer.{key}" for key in ("target_percentile", "latency_repeats", "threads")}
OF_THE_STUDY |= {f"trainer.{key}" for key in ("checkpoint_every", "resume", "check_memory")}
OF_A_TRIAL = {f"dataset.{key}" for key in ("normalise", "normalise_per_quantity", "time_scale")}
OF_A_TRIAL |= {"dataset.log10_transform_params"}


def _find_key(name: str, config: DictConfig) -> str:
    """Key of the config that ``name`` stands for: an attribute of the surrogate, or a dotted path."""
    key = key_of(name)
    section, _, leaf = key.rpartition(".")
    parent = OmegaConf.select(config, section) if key.split(".")[0] in SECTIONS else None
    known = [str(field) for field in parent] if isinstance(parent, DictConfig) else []
    if key in OF_THE_STUDY or (key.startswith("dataset.") and leaf in known and key not in OF_A_TRIAL):
        raise UserError(f"{SECTION}.{name}: {key} cannot be tuned, it says what is learned or how that is measured")
    if leaf in known and not OmegaConf.is_config(OmegaConf.select(config, key)):
        return key
    hint = "" if leaf in known else did_you_mean(leaf, known)
    if not known:
        options = f"a dotted name starts with {', '.join(SECTIONS)}"
    else:
        options = f"{section} has {', '.join(field for field in known if field != 'name')}"
    raise UserError(f"{SECTION}.{name}: {key} is not a value that can be tuned; {hint}{options}")


def _kind(where: str, key: str, entry: Mapping[Any, Any], config: DictConfig) -> Kind:
    """The entry's ``type``, or the one that its fields and the schema imply."""
    has_range, has_choices = bool(RANGE & set(entry)), "choices" in entry
    if has_range == has_choices:
        found = ", ".join(str(field) for field in entry) or "nothing"
        raise UserError(f"{where} needs either low and high, or choices, but has {found}")
    kind = entry.get("type") or ("categorical" if has_choices else _number_type(key, config))
    if kind not in KINDS:
        raise UserError(f"{where}.type must be one of {', '.join(KINDS)}, but is {kind!r}")
    if (kind == "categorical") != has_choices:
        needed = "choices" if kind == "categorical" else "low and high"
        raise UserError(f"{where}: type {kind} needs {needed}, but the entry has {', '.join(map(str, entry))}")
    return kind


def _number_type(key: str, config: DictConfig) -> Kind:
    return "float" if _store(config, key, 0.5) is None else "int"


def _choices(where: str, key: str, entry: Mapping[Any, Any], config: DictConfig) -> tuple[Any, ...]:
    choices = entry["choices"]
    if not isinstance(choices, list) or not choices:
        raise UserError(f"{where}.choices must be a list with at least one value, but is {choices!r}")
    for index, choice in enumerate(choices):
        if any(choice == other and type(choice) is type(other) for other in choices[:index]):
            raise UserError(f"{where}.choices must differ, but {choice!r} is there twice")
        _check_value(f"{where}.choices", key, choice, config)
    return tuple(choices)


def _read_range(where: str, parameter: Parameter, entry: Mapping[Any, Any], config: DictConfig) -> Parameter:
    number = int if parameter.kind == "int" else float
    values: dict[str, Any] = {}
    for field in ("low", "high", "step"):
        value: Any = entry.get(field)
        if value is None and field == "step":
            continue
        if not _is_number(value, parameter.kind):
            raise UserError(f"{where}.{field} must be {_article(parameter.kind)}, but is {value!r}")
        values[field] = number(value)
    log = entry.get("log", False)
    if not isinstance(log, bool):
        raise UserError(f"{where}.log must be true or false, but is {log!r}")
    _check_range(where, log, **values)
    for field in ("low", "high"):
        _check_value(f"{where}.{field}", parameter.key, values[field], config)
    return Parameter(parameter.name, parameter.key, parameter.kind, log=log, when=parameter.when, **values)


def _is_number(value: Any, kind: Kind) -> bool:
    allowed = int if kind == "int" else int | float
    return isinstance(value, allowed) and not isinstance(value, bool) and math.isfinite(value)


def _article(kind: Kind) -> str:
    return "an integer" if kind == "int" else "a finite number"


def _check_range(where: str, log: bool, low: float, high: float, step: float | None = None) -> None:
    if low >= high:
        raise UserError(f"{where}.low must be below high, but low is {low:g} and high is {high:g}")
    if log and low <= 0:
        raise UserError(f"{where}.low must be above 0 with log=true, but is {low:g}")
    if step is None:
        return
    if log:
        raise UserError(f"{where}.step cannot go with log=true; remove one of them (step is {step:g})")
    if step <= 0:
        raise UserError(f"{where}.step must be above 0, but is {step:g}")
    steps = (high - low) / step
    if steps < 1 - 1e-9 or abs(steps - round(steps)) > 1e-9 * max(1.0, steps):
        reachable = low + max(1, math.floor(steps + 1e-9)) * step
        raise UserError(
            f"{where}.step must divide high - low, but step is {step:g}, low {low:g} and high {high:g}; "
            f"for example high={reachable:g}"
        )


def _check_value(where: str, key: str, value: Any, config: DictConfig) -> None:
    """Refuse a value that the schema or the legal range of ``key`` does not allow."""
    problem = _store(config, key, value)
    if problem is not None:
        raise UserError(f"{where}: {key} cannot be {value!r}: {problem}")
    section, _, leaf = key.rpartition(".")
    schema = OmegaConf.get_type(config, section)
    limit = limit_of(schema, leaf) if is_dataclass(schema) else None
    if limit is not None and isinstance(value, int | float) and not limit.holds(value):
        raise UserError(f"{where}: {key} must be {limit}, but is {value:g}")


def _store(config: DictConfig, key: str, value: Any) -> str | None:
    """Write ``value`` into ``config``; why the schema does not keep it as it is, or None."""
    if isinstance(value, list | dict):
        return "only single values can be tuned"
    try:
        OmegaConf.update(config, key, value)
    except OmegaConfBaseException as error:
        return str(error).splitlines()[0]
    stored = OmegaConf.select(config, key)
    kept = type(stored) is type(value) or (isinstance(stored, float) and type(value) is int)
    return None if kept and stored == value else f"it would become {stored!r}"


def _check_duplicates(parameters: list[Parameter]) -> None:
    names: dict[str, str] = {}
    for parameter in parameters:
        if parameter.key in names:
            raise UserError(
                f"{SECTION}.{parameter.name} and {SECTION}.{names[parameter.key]} both tune {parameter.key}; remove one"
            )
        names[parameter.key] = parameter.name


def _check_condition(parameter: Parameter, config: DictConfig) -> None:
    try:
        parameter.is_active(config)
    except OmegaConfBaseException as error:
        cause = IN_A_RESOLVER.sub("", str(error).splitlines()[0])
        raise UserError(
            f"{SECTION}.{parameter.name}.when: {parameter.when} cannot be resolved: {cause}\noperators: {OPERATORS}"
        ) from error
