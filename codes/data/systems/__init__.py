"""Built-in ODE systems, one file each; ``dataset.generate.system`` picks one by name."""

from codes.data.systems.base import System
from codes.data.systems.brusselator import BRUSSELATOR
from codes.data.systems.coupled_oscillators import COUPLED_OSCILLATORS
from codes.data.systems.lotka_volterra import LOTKA_VOLTERRA, LV_PARAMETRIC
from codes.data.systems.primordial_onezone import PRIMORDIAL_ONEZONE
from codes.data.systems.robertson import ROBERTSON

__all__ = ["SYSTEMS", "System"]

SYSTEMS: dict[str, System] = {
    system.name: system
    for system in (
        ROBERTSON,
        LOTKA_VOLTERRA,
        LV_PARAMETRIC,
        COUPLED_OSCILLATORS,
        BRUSSELATOR,
        PRIMORDIAL_ONEZONE,
    )
}
