"""A study keeps the configuration that it was started with; every later difference has a class.

It is kept in the study itself, so that coordinators without a common file system see the same, and in
``optuna_config.yaml`` for readers. ``storage`` is in neither: it may hold a password, and says where the study is, not
what it does.
"""

import copy
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import optuna
import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from codes import resolvers
from codes.bounds import key_of, leaves
from codes.errors import UserError
from codes.files import write_atomically
from codes.schema import READ_WITH
from codes.tuning.conditions import REFERENCE
from codes.tuning.entries import plain_space
from codes.tuning.space import SECTION, as_override
from codes.tuning.tables import table

KEPT = "config"  # user attribute of the study, the text of the file
STORED = "optuna_config.yaml"
NOT_KEPT = ("storage", "on_config_change")
# No result depends on these by more than rounding.
HARMLESS: tuple[str, ...] = ("trials", "max_invalid", "devices", "device", "warm_start", "time_pruning", "keep_models")
HARMLESS += ("deadline", "timeout")
HARMLESS += ("tuning_id", "study_name", "output_dir", "dataset.data_dir", "trainer.checkpoint_every", "trainer.resume")
HARMLESS += ("trainer.check_memory", "trainer.gradients")
HARMLESS += ("fine", "known", "explore")  # they made the search space, which is compared itself
PROPOSING = ("sampler", "slot.population")  # which trials come next, not what those that are there have found
# What a study did whose configuration does not have the key yet.
BEFORE = {"slot.population": 1, "trainer.gradients": "float32", "timeout": None}
UNTYPED = (SECTION, "sampler", "pruner")  # sections whose keys are free, so that one can be taken away
CONTENT = "dataset.content"  # SHA-256 of a file, by which it is known wherever it lies
ABSENT = object()
BEFORE_A_QUOTE = re.compile(r"(\\+)(?='|\Z)")  # backslashes
WORD = re.compile(r"[A-Za-z_][\w./-]*")  # a string that needs no quotes in an override


class Class(str, Enum):
    """What a difference means for the trials that are there."""

    BREAKING = "breaking"  # they answer another question
    COMPATIBLE = "compatible"  # they go on to count, those outside the new search space excepted
    HARMLESS = "harmless"  # nothing


@dataclass(frozen=True)
class Change:
    """A key of the config with its stored and its new value, ``ABSENT`` where there is none."""

    key: str
    stored: Any
    new: Any
    kind: Class

    @property
    def row(self) -> tuple[str, str, str, str]:
        """Cells of the diff."""
        return self.key, self._shown(self.stored), self._shown(self.new), self.kind.value

    @property
    def affects_trials(self) -> bool:
        """Whether it changes what a trial's parameters stand for; what proposes others does not."""
        return self.kind is Class.COMPATIBLE and not _under(self.key, PROPOSING)

    def __str__(self) -> str:
        return f"{self.key} {self._shown(self.stored)} -> {self._shown(self.new)}"

    @property
    def replaces_the_data(self) -> bool:
        """Whether the data file has another content than the one that the study was started with."""
        return self.key == CONTENT and isinstance(self.stored, str) and isinstance(self.new, str)

    def _shown(self, value: Any) -> str:
        if self.key == CONTENT and isinstance(value, str):
            return f"SHA-256 {value[:12]}..."
        return "-" if value is ABSENT else as_override(value)


def keep_config(study: optuna.Study, config: DictConfig, folder: Path) -> None:
    """Keep ``config`` with the study, and a readable copy in ``folder``."""
    text = as_text(config)
    study.set_user_attr(KEPT, text)
    write_atomically(folder / STORED, text)


def kept_config(study: optuna.Study, folder: Path) -> DictConfig | None:
    """What the study was started with; from the file where a study of an earlier version has nothing else."""
    resolvers.register()  # whoever reads it may not have composed a config
    try:
        if KEPT in study.user_attrs:
            kept = OmegaConf.create(study.user_attrs[KEPT])
        elif (folder / STORED).exists():
            kept = OmegaConf.load(folder / STORED)
        else:
            return None
    except yaml.YAMLError as error:  # a tag that would make an object of Python is one too
        cause = " ".join(str(error).split())
        raise UserError(f"study {study.study_name}: its stored configuration cannot be read: {cause}") from error
    assert isinstance(kept, DictConfig)
    return kept


def kept_name(folder: Path) -> str | None:
    """Name of the study whose configuration is in ``folder``; None where there is none."""
    try:
        return OmegaConf.select(OmegaConf.load(folder / STORED), "study_name")
    except (OSError, yaml.YAMLError, OmegaConfBaseException):
        return None


def as_text(config: DictConfig) -> str:
    """What is kept of ``config``: interpolations as they are, but those that set a range of the search space."""
    return OmegaConf.to_yaml(OmegaConf.create(_plain(config)))


def changes(stored: DictConfig, new: DictConfig) -> list[Change]:
    """Every leaf that differs, breaking ones first."""
    old, now = {**BEFORE, **flat(_plain(stored))}, {**BEFORE, **flat(_plain(new))}
    differing = [key for key in {**old, **now} if not _same(key, old, now, stored, new)]
    classify = _classifier(stored, new, differing)
    found = [Change(key, old.get(key, ABSENT), now.get(key, ABSENT), classify(key)) for key in differing]
    harmless = {change.key for change in found if change.kind is Class.HARMLESS} - {"trials"}  # a budget may grow
    for key in old.keys() & now.keys():  # a pruner is another one where what it follows is, though it is written alike
        if _under(key, ("pruner",)) and not harmless.isdisjoint(REFERENCE.findall(str(now[key]))):
            before, after = OmegaConf.select(stored, key), OmegaConf.select(new, key)
            if before != after:
                found.append(Change(key, before, after, classify(key)))
    order = list(Class)
    return sorted(found, key=lambda change: order.index(change.kind))


def diff(found: Sequence[Change]) -> str:
    """``found`` as a table, and in words what a checksum does not say."""
    rows = table(("key", "stored", "new", "class"), [change.row for change in found])
    replaced = "\n\nthe data file has another content than the one that the study was started with"
    return rows + (replaced if any(change.replaces_the_data for change in found) else "")


def with_stored(config: DictConfig, found: Sequence[Change]) -> DictConfig:
    """``config`` with the stored value of every breaking key."""
    breaking = [change for change in found if change.kind is Class.BREAKING]
    plain: Any = OmegaConf.to_container(config, resolve=False)
    for change in sorted(breaking, key=lambda change: change.stored is not ABSENT):  # what goes first makes room
        _put(plain, change.key.split("."), change.stored)
    emptied = copy.deepcopy(config)
    OmegaConf.set_struct(emptied, False)
    for section in UNTYPED:
        emptied[section] = {}
    merged = OmegaConf.merge(emptied, plain)
    assert isinstance(merged, DictConfig)
    OmegaConf.set_struct(merged, OmegaConf.is_struct(config))
    return merged


def overrides_back(found: Sequence[Change], stored: DictConfig) -> list[str]:
    """Overrides that take the new config back to ``stored``, harmless keys aside."""
    counting = [change for change in found if change.kind is not Class.HARMLESS]
    extra = [change.key for change in counting if change.stored is ABSENT and _under(change.key, UNTYPED)]
    removed = dict.fromkeys(f"~{_topmost_absent(key, _plain(stored))}" for key in extra)
    return [*removed, *(f"++{item.key}={quoted(item.stored)}" for item in counting if item.stored is not ABSENT)]


def _topmost_absent(key: str, tree: Any) -> str:
    path = key.split(".")
    for depth, part in enumerate(path):
        if not isinstance(tree, Mapping) or part not in tree:
            return ".".join(path[: depth + 1])
        tree = tree[part]
    return key


def quoted(value: Any) -> str:
    """``value`` as Hydra's command line reads it."""
    if isinstance(value, list):
        return f"[{','.join(map(quoted, value))}]"
    if not isinstance(value, str):
        return as_override(value)
    is_word = WORD.fullmatch(value) and value.lower() not in ("true", "false", "null", "inf", "nan")
    doubled = BEFORE_A_QUOTE.sub(r"\1\1", value)  # elsewhere Hydra takes them as they are
    return value if is_word else "'" + doubled.replace("'", r"\'") + "'"


def _classifier(stored: DictConfig, new: DictConfig, differing: Sequence[str]) -> Callable[[str], Class]:
    """Class of a key that differs, in the light of the others."""
    before, after = conditions(stored), conditions(new)
    objective = any(key.startswith("objective.") for key in differing)
    has_moved = CONTENT not in differing and OmegaConf.select(new, CONTENT) is not None

    def classify(key: str) -> Class:
        if key == "dataset.path" and has_moved:
            return Class.HARMLESS
        if _under(key, HARMLESS) or not (_reads(key, stored, before) or _reads(key, new, after)):
            return Class.HARMLESS
        if _under(key, (SECTION,)) or (key in before and key not in after) or after.get(key, False) is None:
            return Class.COMPATIBLE
        if key == "slot.population" or (_under(key, ("sampler",)) and not objective):
            return Class.COMPATIBLE  # the default sampler follows the choice of the objective
        return Class.BREAKING

    return classify


def conditions(config: DictConfig) -> dict[str, Any]:
    """Keys of the config that are tuned, with their conditions as they are written; None, always."""
    tree: Any = OmegaConf.to_container(config[SECTION], resolve=False)
    return {key_of(name): entry.get("when") for name, entry in leaves(tree)}


def _reads(key: str, config: DictConfig, tuned: Mapping[str, Any]) -> bool:
    """Whether a trial may depend on the value that ``key`` has in ``config``, which tunes those in ``tuned``."""
    if key not in READ_WITH:
        return tuned.get(key, True) is not None
    other, value = READ_WITH[key]
    wanted = f"${{{other}}}" if value is True else f"${{eq:${{{other}}},{value}}}"
    is_sampled_where_read = key in tuned and tuned[key] in (None, wanted)
    return not is_sampled_where_read and (other in tuned or is_read(key, config))


def is_read(key: str, config: DictConfig) -> bool:
    """Whether a training with ``config`` depends on ``key``."""
    other, value = READ_WITH.get(key, (None, None))
    return other is None or OmegaConf.select(config, other) == value


def _under(key: str, sections: Sequence[str]) -> bool:
    return any(f"{key}.".startswith(f"{section}.") for section in sections)


def _same(key: str, old: Mapping[str, Any], now: Mapping[str, Any], stored: DictConfig, new: DictConfig) -> bool:
    """Whether a leaf is the same, as it is written or, conditions of the search space excepted, as it resolves."""
    if key not in old or key not in now or old[key] == now[key]:
        return key in old and key in now
    if not any("${" in str(value) for value in (old[key], now[key])) or key.endswith(".when"):
        return False
    try:
        return bool(OmegaConf.select(stored, key) == OmegaConf.select(new, key))
    except OmegaConfBaseException:  # it looks at what is not kept
        return False


def _plain(config: DictConfig) -> dict[str, Any]:
    plain: Any = OmegaConf.to_container(config, resolve=False)
    if SECTION in plain:
        plain[SECTION] = plain_space(config)
    return {str(key): value for key, value in plain.items() if key not in NOT_KEPT}


def flat(tree: Mapping[Any, Any], path: str = "") -> dict[str, Any]:
    """Values of a tree by their dotted keys."""
    values: dict[str, Any] = {}
    for key, value in tree.items():
        values |= flat(value, f"{path}{key}.") if isinstance(value, Mapping) else {f"{path}{key}": value}
    return values


def _put(tree: dict[str, Any], path: Sequence[str], value: Any) -> None:
    """Set or, with ``ABSENT``, take away one leaf of a tree."""
    *sections, leaf = path
    for section in sections:
        if not isinstance(tree.get(section), dict):
            tree[section] = {}
        tree = tree[section]
    if value is ABSENT:
        tree.pop(leaf, None)
    else:
        tree[leaf] = value
