"""Surrogates of coupled ODE systems: train, tune, select, use."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from codes.training import load

__all__ = ["load"]


def __getattr__(name: str) -> Any:
    """Import PyTorch only when something that needs it is asked for."""
    if name == "load":
        from codes.training import load

        return load
    raise AttributeError(f"module 'codes' has no attribute '{name}'")
