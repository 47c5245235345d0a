"""Legal ranges of the numbers in a config: what a training checks, and what a search space may propose."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Limit:
    """Closed interval [``low``, ``high``]; ``above`` and ``below`` say that an end itself is not allowed."""

    low: float = -math.inf
    high: float = math.inf
    above: bool = False
    below: bool = False

    def holds(self, value: float) -> bool:
        """Whether ``value`` is finite and inside."""
        low = value > self.low if self.above else value >= self.low
        high = value < self.high if self.below else value <= self.high
        return math.isfinite(value) and low and high

    def __str__(self) -> str:
        low = f"above {self.low:g}" if self.above else f"at least {self.low:g}"
        if self.high == math.inf:
            return low
        return f"{low} and {'below' if self.below else 'at most'} {self.high:g}"


POSITIVE = Limit(0.0, above=True)
NOT_NEGATIVE = Limit(0.0)
COUNT = Limit(1)

LIMITS: dict[str, Limit] = {
    "surrogate.learning_rate": POSITIVE,
    "surrogate.regularization_factor": NOT_NEGATIVE,
    "surrogate.momentum": Limit(0.0, 1.0, below=True),
    "surrogate.poly_power": POSITIVE,
    "surrogate.eta_min": Limit(0.0, 1.0),
    "surrogate.beta": POSITIVE,
    "surrogate.branch_hidden_layers": COUNT,
    "surrogate.trunk_hidden_layers": COUNT,
    "surrogate.hidden_size": COUNT,
    "surrogate.output_factor": COUNT,
    "surrogate.num_hidden_layers": COUNT,
    "surrogate.latent_features": COUNT,
    "surrogate.coder_layers": COUNT,
    "surrogate.coder_width": COUNT,
    "surrogate.identity_weight": NOT_NEGATIVE,
    "surrogate.derivative_weight": NOT_NEGATIVE,
    "surrogate.curvature_weight": NOT_NEGATIVE,
    "surrogate.degree": COUNT,
    "surrogate.coeff_width": COUNT,
    "surrogate.coeff_layers": COUNT,
    "surrogate.ode_layers": COUNT,
    "surrogate.ode_width": COUNT,
    "surrogate.rtol": POSITIVE,
    "surrogate.atol": POSITIVE,
    "trainer.epochs": COUNT,
    "trainer.batch_size": COUNT,
    "trainer.batch_times": COUNT,
    "trainer.evaluate_every": COUNT,
    "trainer.target_percentile": Limit(0.0, 100.0, above=True),
    "trainer.checkpoint_every": NOT_NEGATIVE,
    "trainer.latency_repeats": COUNT,
    "trainer.threads": COUNT,
    "dataset.tolerance": POSITIVE,
}
