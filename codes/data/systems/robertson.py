"""Robertson's autocatalytic reaction: three species, rates nine orders of magnitude apart."""

import numpy as np

from codes.data.systems.base import Array, System, log_uniform

K1 = 0.04  # y1 -> y2
K2 = 3e7  # y2 + y2 -> y2 + y3
K3 = 1e4  # y2 + y3 -> y1 + y3


def rhs(state: Array, parameters: Array | None = None) -> list[float]:
    """y1' = -k1 y1 + k3 y2 y3, y2' = k1 y1 - k3 y2 y3 - k2 y2^2, y3' = k2 y2^2; the sum stays.

    H. H. Robertson (1966), in J. Walsh (ed.), Numerical Analysis: An Introduction, p. 178; the stiff test problem ROBER
    of E. Hairer & G. Wanner (1996), Solving Ordinary Differential Equations II, section IV.10.
    """
    y1, y2, y3 = state.tolist()
    first, second, third = K1 * y1, K2 * y2 * y2, K3 * y2 * y3
    return [third - first, first - third - second, second]


def draw(generator: np.random.Generator, n: int) -> tuple[Array, None]:
    """y1 uniform in [0.1, 1], y2 and y3 log-uniform in [1e-8, 1e-4] and [1e-4, 1]."""
    y1 = generator.uniform(0.1, 1.0, n)
    y2 = log_uniform(generator, 1e-8, 1e-4, n)
    y3 = log_uniform(generator, 1e-4, 1.0, n)
    return np.stack([y1, y2, y3], axis=1), None


ROBERTSON = System(
    name="robertson",
    labels=("y1", "y2", "y3"),
    timesteps=np.logspace(-5, 5, 101),
    rhs=rhs,
    draw=draw,
    rtol=1e-9,
    atol=1e-15,
)
