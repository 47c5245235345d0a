"""LatentPoly: polynomials of time in a latent space."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from codes.schema import DataSpec, LatentPolyConfig
from codes.surrogates.latent import LatentSurrogate
from codes.surrogates.layers import join, mlp
from codes.surrogates.onednn import Linear


def polynomial_basis(t: Tensor, degree: int) -> Tensor:
    r"""Chebyshev polynomials of the first kind on [0, 1] that vanish at t = 0.

    .. math:: \phi_k(t) = T_k(2t - 1) - T_k(-1), \quad k = 1, \dots, \mathrm{degree}

    They span the same polynomials as :math:`t, t^2, \dots`, but are far from parallel, so that high degrees train.

    Args:
        t: times, [..., T].
        degree: the highest power of time.

    Returns:
        Values, [..., T, degree].
    """
    s = 2 * t - 1
    values = [torch.ones_like(s), s]
    while len(values) <= degree:
        values.append(2 * s * values[-1] - values[-2])
    return torch.stack([value - (-1) ** k for k, value in enumerate(values) if k > 0], dim=-1)


class LatentPoly(LatentSurrogate):
    r"""Encoder, polynomial of time in the latent space, decoder.

    .. math:: z(t) = z_0 + \sum_{k=1}^{\mathrm{degree}} c_k \phi_k(t), \qquad z_0 = \mathrm{encoder}(x_0, p)

    The basis :math:`\phi_k` vanishes at t = 0, so z(0) = z_0. The coefficients [degree, L] are a linear map of z_0,
    which includes coefficients that all trajectories share (Sulzer & Buck 2023, arXiv:2312.06015). With
    ``coeff_network`` they are a network of (z_0, p) instead, and the parameters leave the encoder.
    """

    stackable: ClassVar[bool] = True
    config: LatentPolyConfig

    def __init__(self, config: LatentPolyConfig, spec: DataSpec) -> None:
        super().__init__(config, spec, encode_params=not config.coeff_network)
        n_coefficients = config.degree * config.latent_features
        self.coefficients: nn.Module
        if config.coeff_network:
            self.coefficients = mlp(
                config.latent_features + spec.n_parameters,
                n_coefficients,
                width=config.coeff_width,
                depth=config.coeff_layers,
                activation=config.activation,
            )
        else:
            self.coefficients = Linear(config.latent_features, n_coefficients)

    def evolve(self, z0: Tensor, t: Tensor, p: Tensor | None) -> Tensor:
        """The polynomial at the times ``t``: [B, L] to [B, T, L]."""
        flat = self.coefficients(z0 if self.encode_params else join(z0, p))
        coefficients = flat.unflatten(-1, (self.config.degree, self.config.latent_features))
        return z0.unsqueeze(-2) + polynomial_basis(t, self.config.degree).unsqueeze(-3) @ coefficients
