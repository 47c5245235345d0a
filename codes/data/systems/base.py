"""What a built-in ODE system is: equations, where its trajectories start, when they are kept, how they are solved."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
RightHandSide = Callable[[Array, Array | None], ArrayLike]
MAX_EVALUATIONS = 1_000_000  # of f in one trajectory; the systems here need less than 10,000
Draw = Callable[[np.random.Generator, int], tuple[Array, Array | None]]


@dataclass(frozen=True)
class System:
    """An autonomous initial value problem dy/dt = f(y, p) and the distribution of its trajectories.

    Args:
        name: Its key in ``SYSTEMS`` and the value of ``dataset.generate.system``.
        labels: Names of the ``Q`` quantities, with units.
        timesteps: Times ``[T]`` at which states are kept; every trajectory starts from its initial condition at t = 0.
        rhs: f(y ``[Q]``, p ``[P]`` or None) -> dy/dt ``[Q]``.
        draw: (generator, n) -> initial conditions ``[n, Q]`` and parameters ``[n, P]`` or None.
        rtol, atol: Local error allowed per step; ``atol`` is one number or one per quantity.
        method: One of ``scipy.integrate.solve_ivp``.
        parameter_labels: Names of the ``P`` parameters.
    """

    name: str
    labels: tuple[str, ...]
    timesteps: Array
    rhs: RightHandSide
    draw: Draw
    rtol: float
    atol: float | tuple[float, ...]
    method: str = "LSODA"
    parameter_labels: tuple[str, ...] | None = None

    def solve(self, state: ArrayLike, parameters: Array | None = None) -> Any:
        """SciPy's result of integrating from ``state`` at t = 0; ``y`` is ``[Q, T]`` if ``success``.

        Raises:
            ArithmeticError: f cannot be computed, or the steps become so small that there is no end.
        """
        from scipy.integrate import solve_ivp  # 0.4 s, which a cached dataset does not need

        evaluations = count(1)

        def derivative(t: float, y: Array) -> ArrayLike:
            if next(evaluations) > MAX_EVALUATIONS:
                raise ArithmeticError(f"no progress beyond t = {t:.6g} after {MAX_EVALUATIONS} evaluations")
            return self.rhs(y, parameters)

        return solve_ivp(
            derivative,
            (0.0, self.timesteps[-1]),
            np.asarray(state, dtype=np.float64),
            method=self.method,
            t_eval=self.timesteps,
            rtol=self.rtol,
            atol=self.atol,
        )


def log_uniform(generator: np.random.Generator, low: float, high: float, size: int | tuple[int, ...]) -> Array:
    """Samples in [low, high) whose logarithm is uniform."""
    return np.exp(generator.uniform(np.log(low), np.log(high), size))
