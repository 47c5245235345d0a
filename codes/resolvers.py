"""Every OmegaConf resolver, each a pure function of its arguments."""

import os
import re
import textwrap
from collections.abc import Callable
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from codes.bounds import leaves, refine
from codes.errors import UserError
from codes.metrics import direction

NAME_LIMIT = 120  # bytes of a folder's name that a user chooses; file systems take 255, suffixes need some
OF_A_BACKUP = re.compile(r"(\.bak-[\d-]+)+$")  # what on_config_change appends to the name of a study that it keeps
OPERATORS = "${eq:a,b} ${ne:a,b} ${in:a,[b,c]} ${gt:a,b} ${lt:a,b} ${not:a} ${and:a,b} ${or:a,b}"  # of conditions
DEVICE_SLOT_VARIABLE = "CODES_DEVICE_SLOT"


def device_slot() -> str:
    """Device of the slot that this process serves; ``auto`` outside a slot: the first GPU, else the CPU."""
    return os.environ.get(DEVICE_SLOT_VARIABLE, "auto")


def greater(a: Any, b: Any) -> bool:
    """``a > b``; false where one of them is null."""
    return a is not None and b is not None and bool(a > b)


def less(a: Any, b: Any) -> bool:
    """``a < b``; false where one of them is null."""
    return a is not None and b is not None and bool(a < b)


def choices(group: str, indent: int) -> str:
    """Choices of a config group, as Hydra finds them on its search path, wrapped for the help text."""
    options = GlobalHydra.instance().config_loader().get_group_options(group)
    return textwrap.fill(", ".join(options), 100, subsequent_indent=" " * indent, initial_indent=" " * indent).lstrip()


def first_look(epochs: int, evaluate_every: int) -> int:
    """Epoch at which a pruner first looks: a tenth of a training (three brackets of Hyperband), once evaluated."""
    return min(epochs, max(evaluate_every, epochs // 10))


def trial_budget(search_space: Any) -> int:
    """Valid trials of a study that names no number: 15 for each parameter that is tuned."""
    return 15 * sum(1 for _ in leaves(search_space))


def population(trials: int | None, search_space: Any) -> int:
    """Population for a budget: five generations or more, at most Optuna's 50, enough to cross over."""
    budget = trial_budget(search_space) if trials is None else trials
    return max(4, min(50, budget // 5))


def folder_name(name: str) -> str:
    """``name`` if it can be the name of one folder, and of nothing else; raises ``UserError`` if not."""
    size = len(OF_A_BACKUP.sub("", name).encode(errors="surrogatepass"))
    problem = None
    if not 0 < size <= NAME_LIMIT:
        problem = f"must have 1 to {NAME_LIMIT} bytes, but has {size}"
    elif any(sign in '/\\:*?"<>|' or not sign.isprintable() for sign in name):
        problem = 'must be one folder, without / \\ : * ? " < > | and control characters'
    elif name[0] in ".- " or name[-1] in ". ":
        problem = "must not begin with a dot, a dash or a blank, nor end with a dot or a blank"
    if problem is not None:
        shown = name if size <= NAME_LIMIT else f"{name[:40]}..."
        raise UserError(f"tuning_id, training_id and fine.name {problem}: {shown!r}")
    return name


def fine_bounds(known: Any, explore: Any, factor: float, names: Any) -> DictConfig:
    """Search space around the configuration ``known``: a range for every number that the space ``explore`` tunes."""
    plain: list[Any] = [OmegaConf.to_container(node, resolve=True) for node in (known, explore)]
    space = OmegaConf.create()
    for name, entry in refine(plain[0], plain[1], factor, None if names is None else list(names)).ranges.items():
        OmegaConf.update(space, name, entry)
    return space


def fine_budget(search_space: Any) -> int:
    """Valid trials of a fine study: ten for each parameter."""
    return max(10 * sum(1 for _ in leaves(search_space)), 10)


def directions(metrics: Any) -> list[str]:
    """Direction of each of ``metrics``, for Hydra's Optuna sweeper."""
    return [direction(metric) for metric in metrics]


RESOLVERS: dict[str, Callable[..., Any]] = {
    "device_slot": device_slot,
    "eq": lambda a, b: bool(a == b),
    "ne": lambda a, b: bool(a != b),
    "in": lambda a, options: a in options,
    "gt": greater,
    "lt": less,
    "not": lambda a: not a,
    "and": lambda *conditions: all(conditions),
    "or": lambda *conditions: any(conditions),
    "first_look": first_look,
    "population": population,
    "trial_budget": trial_budget,
    "fine_bounds": fine_bounds,
    "fine_budget": fine_budget,
    "choices": choices,
    "directions": directions,
    "folder_name": folder_name,
    "absolute": os.path.abspath,
}


def register() -> None:
    """Register all of them; a second call changes nothing."""
    for name, resolver in RESOLVERS.items():
        OmegaConf.register_resolver(name, resolver, replace=True, annotation_validation="off")
