"""Every OmegaConf resolver, each a pure function of its arguments."""

import os
from typing import Any

from omegaconf import OmegaConf

DEVICE_SLOT_VARIABLE = "CODES_DEVICE_SLOT"


def device_slot() -> str:
    """Device of the slot that this process serves; ``auto`` outside a slot: the first GPU, else the CPU."""
    return os.environ.get(DEVICE_SLOT_VARIABLE, "auto")


def greater(a: Any, b: Any) -> bool:
    """``a > b``; a missing value is greater than nothing."""
    return a is not None and b is not None and bool(a > b)


def less(a: Any, b: Any) -> bool:
    """``a < b``; a missing value is less than nothing."""
    return a is not None and b is not None and bool(a < b)


RESOLVERS = {
    "device_slot": device_slot,
    "eq": lambda a, b: bool(a == b),
    "ne": lambda a, b: bool(a != b),
    "in": lambda a, options: a in options,
    "gt": greater,
    "lt": less,
    "not": lambda a: not a,
    "and": lambda *conditions: all(conditions),
    "or": lambda *conditions: any(conditions),
}


def register() -> None:
    """Register all of them; a second call changes nothing."""
    for name, resolver in RESOLVERS.items():
        OmegaConf.register_resolver(name, resolver, replace=True, annotation_validation="off")
