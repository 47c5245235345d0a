"""Surrogates: four families with one contract, see :class:`codes.surrogates.base.Surrogate`."""

from codes.errors import UserError
from codes.schema import DataSpec, SurrogateConfig
from codes.surrogates.base import SolverFailure, Surrogate
from codes.surrogates.fully_connected import FullyConnected
from codes.surrogates.latent_neural_ode import LatentNeuralODE
from codes.surrogates.latent_poly import LatentPoly
from codes.surrogates.multionet import MultiONet

SURROGATES: dict[str, type[Surrogate]] = {
    "MultiONet": MultiONet,
    "FullyConnected": FullyConnected,
    "LatentPoly": LatentPoly,
    "LatentNeuralODE": LatentNeuralODE,
}

__all__ = ["SURROGATES", "SolverFailure", "Surrogate", "build"]


def build(config: SurrogateConfig, spec: DataSpec) -> Surrogate:
    """Make the surrogate that ``config.name`` names, with weights drawn from torch's global generator.

    Raises:
        UserError: the name is unknown, or a hyperparameter breaks a rule.
    """
    if config.name not in SURROGATES:
        raise UserError(f"surrogate.name: {config.name!r} is unknown; choose from {', '.join(SURROGATES)}")
    return SURROGATES[config.name](config, spec)
