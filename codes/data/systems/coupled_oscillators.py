"""Five equal masses in a row between two walls, joined by equal springs."""

import numpy as np

from codes.data.systems.base import Array, System

N_MASSES = 5
STIFFNESS = 2 * np.eye(N_MASSES) - np.eye(N_MASSES, k=1) - np.eye(N_MASSES, k=-1)
MATRIX = np.block([[np.zeros((N_MASSES, N_MASSES)), np.eye(N_MASSES)], [-STIFFNESS, np.zeros((N_MASSES, N_MASSES))]])


def rhs(state: Array, parameters: Array | None = None) -> Array:
    """x_i' = v_i, v_i' = x_(i+1) - 2 x_i + x_(i-1), walls at x_0 = x_6 = 0; mass and spring constant are 1.

    Linear, y' = M y: the exact solution is exp(M t) y(0), the normal frequencies are 2 sin(j pi / 12), j = 1..5, and
    v.v/2 + x.K x/2 is conserved. H. Goldstein, Classical Mechanics, chapter on oscillations.
    """
    return MATRIX @ state


def draw(generator: np.random.Generator, n: int) -> tuple[Array, None]:
    """Displacements and velocities uniform in [-1, 1]."""
    return generator.uniform(-1.0, 1.0, (n, 2 * N_MASSES)), None


COUPLED_OSCILLATORS = System(
    name="coupled_oscillators",
    labels=tuple(f"{quantity}{i}" for quantity in "xv" for i in range(1, N_MASSES + 1)),
    timesteps=np.linspace(0, 10, 101),
    rhs=rhs,
    draw=draw,
    rtol=1e-10,
    atol=1e-12,
)
