"""LatentPoly: polynomials of time in a latent space."""

from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn

from codes.schema import DataSpec, LatentPolyConfig
from codes.surrogates.latent import LatentSurrogate
from codes.surrogates.layers import join, mlp
from codes.surrogates.memo import Memo
from codes.surrogates.products import Linear


def polynomial_basis(t: Tensor, degree: int, kind: str) -> Tensor:
    r"""1, and polynomials of degree k = 1 ... ``degree`` that vanish at t = 0.

    .. math:: \phi_k(t) = t^k \quad (\mathrm{powers}) \qquad
              \phi_k(t) = T_k(2t - 1) - T_k(-1) \quad (\mathrm{chebyshev})

    with the Chebyshev polynomials of the first kind. Both span the same. Powers are nearly parallel, so that a gradient
    moves them together: fast where all trajectories do much the same, and slow to tell them apart.

    Args:
        t: times, [..., T].
        degree: the highest power of time.
        kind: ``powers`` or ``chebyshev``.

    Returns:
        Values, [..., T, 1 + degree].
    """
    if kind == "powers":
        return t.unsqueeze(-1) ** torch.arange(degree + 1, device=t.device)
    s = 2 * t - 1
    values = [torch.ones_like(s), s]
    while len(values) <= degree:
        values.append(2 * s * values[-1] - values[-2])
    return torch.stack([values[0], *(value - (-1) ** k for k, value in enumerate(values) if k > 0)], dim=-1)


def polynomial_shares(t: Tensor, degree: int, kind: str) -> Tensor:
    """:func:`polynomial_basis` with a first column that makes the sum 1."""
    basis = polynomial_basis(t, degree, kind)
    return torch.cat([1 - basis[..., 1:].sum(-1, keepdim=True), basis[..., 1:]], dim=-1)


class LatentPoly(LatentSurrogate):
    r"""Encoder, polynomial of time in the latent space, decoder.

    .. math:: z(t) = z_0 + \sum_{k=1}^{\mathrm{degree}} c_k \phi_k(t), \qquad z_0 = \mathrm{encoder}(x_0, p)

    The ``basis`` :math:`\phi_k` (:func:`polynomial_basis`) vanishes at t = 0, so z(0) = z_0. The coefficients
    [degree, L] are a linear map of z_0, which includes coefficients that all trajectories share (Sulzer & Buck 2023,
    arXiv:2312.06015). With ``coeff_network`` they are a network of (z_0, p), and the parameters leave the encoder.
    """

    stackable: ClassVar[bool] = True
    capturable: ClassVar[bool] = True
    config: LatentPolyConfig

    def __init__(self, config: LatentPolyConfig, spec: DataSpec) -> None:
        super().__init__(config, spec, encode_params=not config.coeff_network)
        self.shares = Memo(partial(polynomial_shares, degree=config.degree, kind=config.basis))
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

    def points(self, z0: Tensor, p: Tensor | None) -> Tensor:
        """z_0 and z_0 + c_k, of which the polynomial is a mean at each time: [B, L] to [B, 1 + degree, L]."""
        flat = self.coefficients(z0 if self.encode_params else join(z0, p))
        coefficients = flat.unflatten(-1, (self.config.degree, self.config.latent_features))
        start = z0.unsqueeze(-2)
        return torch.cat([start, start + coefficients], dim=-2)

    def evolve(self, z0: Tensor, t: Tensor, p: Tensor | None) -> Tensor:
        """The polynomial at the times ``t``: [B, L] to [B, T, L]."""
        return self._shares(t) @ self.points(z0, p)

    def trajectory(self, z0: Tensor, t: Tensor, p: Tensor | None) -> Tensor:
        return self.decoder(self.points(z0, p), shares=self._shares(t))

    def _shares(self, t: Tensor) -> Tensor:
        """Those of the points at the times ``t`` of each trajectory: [T, 1 + degree], stacked [K, 1, T, 1 + degree]."""
        shares = self.shares(t)
        return shares.unsqueeze(-3) if self.stacked else shares
