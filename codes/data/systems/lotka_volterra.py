"""Three prey, three predators; with fixed rates, and with rates that vary from trajectory to trajectory."""

from dataclasses import replace

import numpy as np

from codes.data.systems.base import Array, System, log_uniform

GROWTH = np.array([0.5, 0.6, 0.4])  # of prey alone, per year
PREDATION = np.array([[0.02, 0.01, 0.0], [0.0, 0.02, 0.01], [0.01, 0.0, 0.02]])  # of prey i by predator j, per year
MORTALITY = np.array([0.2, 0.15, 0.25])  # of predators without prey, per year
CONVERSION = 0.3  # predators born per prey eaten
FACTORS = np.ones(3)


def rhs(state: Array, parameters: Array | None = None) -> Array:
    """p_i' = p_i (g r_i - c (A q)_i), q_j' = q_j (e c (A^T p)_j - d m_j); parameters (g, c, d), all 1 if not given.

    A. J. Lotka (1925), Elements of Physical Biology; V. Volterra (1926), Nature 118, 558. With p*, q* such that
    c A q* = g r and e c A^T p* = d m, e sum_i (p_i - p*_i ln p_i) + sum_j (q_j - q*_j ln q_j) is conserved:
    J. Hofbauer & K. Sigmund (1998), Evolutionary Games and Population Dynamics, on many species.
    """
    growth, predation, mortality = FACTORS if parameters is None else parameters
    prey, predators = state[:3], state[3:]
    prey_change = prey * (growth * GROWTH - predation * (PREDATION @ predators))
    predator_change = predators * (CONVERSION * predation * (prey @ PREDATION) - mortality * MORTALITY)
    return np.concatenate([prey_change, predator_change])


def draw(generator: np.random.Generator, n: int) -> tuple[Array, None]:
    """Populations log-uniform in [5, 40]."""
    return log_uniform(generator, 5.0, 40.0, (n, 6)), None


def draw_with_rates(generator: np.random.Generator, n: int) -> tuple[Array, Array]:
    """Populations log-uniform in [5, 40]; factors of growth, predation and mortality uniform in [0.7, 1.3]."""
    return log_uniform(generator, 5.0, 40.0, (n, 6)), generator.uniform(0.7, 1.3, (n, 3))


LOTKA_VOLTERRA = System(
    name="lotka_volterra",
    labels=("prey 1", "prey 2", "prey 3", "predator 1", "predator 2", "predator 3"),
    timesteps=np.linspace(0, 50, 101),
    rhs=rhs,
    draw=draw,
    rtol=1e-10,
    atol=1e-12,
)
LV_PARAMETRIC = replace(
    LOTKA_VOLTERRA,
    name="lv_parametric",
    draw=draw_with_rates,
    parameter_labels=("growth g", "predation c", "mortality d"),
)
