"""The Brusselator: a chemical oscillator whose trajectories all end on one limit cycle."""

import numpy as np

from codes.data.systems.base import Array, System

A = 1.0
B = 3.0


def rhs(state: Array, parameters: Array | None = None) -> list[float]:
    """x' = a + x^2 y - (b + 1) x, y' = b x - x^2 y with a = 1, b = 3.

    I. Prigogine & R. Lefever (1968), J. Chem. Phys. 48, 1695. For b > 1 + a^2 the fixed point (a, b/a) is unstable and
    a limit cycle attracts every other trajectory: E. Hairer, S. P. Norsett & G. Wanner (1993), Solving Ordinary
    Differential Equations I, section I.16.
    """
    x, y = state.tolist()
    autocatalysis = x * x * y
    return [A + autocatalysis - (B + 1) * x, B * x - autocatalysis]


def draw(generator: np.random.Generator, n: int) -> tuple[Array, None]:
    """x uniform in [0.5, 4], y uniform in [0.5, 5]: inside and outside of the cycle."""
    return generator.uniform([0.5, 0.5], [4.0, 5.0], (n, 2)), None


BRUSSELATOR = System(
    name="brusselator",
    labels=("x", "y"),
    timesteps=np.linspace(0, 20, 101),
    rhs=rhs,
    draw=draw,
    rtol=1e-10,
    atol=1e-12,
)
