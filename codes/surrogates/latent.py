"""What both latent families share: encoder, decoder, and a loss with more than the prediction."""

from functools import partial
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from codes.errors import UserError
from codes.schema import DataSpec, LatentConfig
from codes.surrogates.base import Criterion, Surrogate
from codes.surrogates.layers import join, mlp
from codes.surrogates.memo import Memo
from codes.surrogates.squared_loss import squared_loss


def difference_rates(t: Tensor, n_columns: int) -> tuple[Tensor, Tensor]:
    r"""What differences of neighbours in time are to be multiplied by, :math:`1 / (t_{i+1} - t_i)`.

    A product is the derivative half way between its two times, to second order in their distance on an even grid.

    Args:
        t: ascending times, [..., T].
        n_columns: numbers at each time. The rates are repeated so often: to broadcast them along a short last dimension
            takes five times as long.

    Returns:
        Rates [..., T-1, n_columns], and the times [..., T-1] of the derivatives.
    """
    rates = torch.diff(t).reciprocal().unsqueeze(-1).repeat(*[1] * t.ndim, n_columns)
    return rates, (t[..., 1:] + t[..., :-1]) / 2


def derivative_rates(t: Tensor, order: int, n_columns: int) -> list[Tensor]:
    """Rates (:func:`difference_rates`) of the derivatives up to ``order``, each from the one before."""
    rates = []
    for _ in range(order):
        rate, t = difference_rates(t, n_columns)
        rates.append(rate)
    return rates


class LatentSurrogate(Surrogate):
    r"""A trajectory in a latent space that starts at the encoded state:

    .. math:: z_0 = \mathrm{encoder}(x_0, p), \qquad x(t) = \mathrm{decoder}(z(t)), \qquad z(0) = z_0

    A family implements :meth:`evolve`, the way from z_0 to z(t). The loss of a prediction y against the truth x is

    .. math:: C(y, x) + w_0 C(\mathrm{decoder}(z_0), x_0) + w_1 C(\dot y / s_1, \dot x / s_1)
              + w_2 C(\ddot y / s_2, \ddot x / s_2), \qquad s_i^2 = 1 + \overline{(x^{(i)})^2}

    with the criterion C, a function of the difference of its arguments, the weights ``identity_weight``,
    ``derivative_weight`` and ``curvature_weight``, and divided differences over the batch's times, which must ascend
    from 0, so that the first state of y is decoder(z_0).
    The scales s_i bring each term to the order of 1: the mean square of the batch's true derivatives, and 1 for states
    that hardly change. A weight of 0 costs nothing.

    Args:
        encode_params: parameters enter the encoder.
    """

    pointwise: ClassVar[bool] = False
    config: LatentConfig

    def __init__(self, config: LatentConfig, spec: DataSpec, *, encode_params: bool) -> None:
        super().__init__(config, spec)
        for order, key in enumerate(("derivative_weight", "curvature_weight"), start=1):
            if getattr(config, key) and spec.n_timesteps <= order:
                raise UserError(
                    f"surrogate.{key}: must be 0 for a dataset of {spec.n_timesteps} timesteps "
                    f"but got {getattr(config, key)}"
                )
        self.encode_params = encode_params
        self.weights = [config.derivative_weight, config.curvature_weight]  # up to the last that is not 0
        while self.weights and not self.weights[-1]:
            self.weights.pop()
        self.rates = Memo(partial(derivative_rates, order=len(self.weights), n_columns=spec.n_quantities))
        n_in = spec.n_quantities + (spec.n_parameters if encode_params else 0)
        width, depth, activation = config.coder_width, config.coder_layers, config.activation
        self.encoder = mlp(n_in, config.latent_features, width=width, depth=depth, activation=activation)
        self.decoder = mlp(config.latent_features, spec.n_quantities, width=width, depth=depth, activation=activation)

    def encode(self, x0: Tensor, p: Tensor | None) -> Tensor:
        """The latent state at t = 0: [B, Q] to [B, L]."""
        return self.encoder(join(x0, p if self.encode_params else None))

    def evolve(self, z0: Tensor, t: Tensor, p: Tensor | None) -> Tensor:
        """Latent states at the times ``t``: [B, L] to [B, T, L]."""
        raise NotImplementedError

    def trajectory(self, z0: Tensor, t: Tensor, p: Tensor | None) -> Tensor:
        """States at the times ``t``: [B, L] to [B, T, Q]."""
        return self.decoder(self.evolve(z0, t, p))

    def forward(self, x0: Tensor, t: Tensor, p: Tensor | None = None) -> Tensor:
        self.check_inputs(x0, t, p)
        return self.trajectory(self.encode(x0, p), t, p)

    def loss(self, x0: Tensor, t: Tensor, p: Tensor | None, x: Tensor, criterion: Criterion) -> Tensor:
        y, identity_weight, rates = self(x0, t, p), self.config.identity_weight, self.rates(t)
        if criterion is mse_loss and rates:
            return squared_loss(y, x, x0, identity_weight, rates, self.weights)
        loss = criterion(y, x)
        if identity_weight:
            loss = loss + identity_weight * criterion(y[..., 0, :], x0)
        return loss + self._derivative_terms(y, x, rates, criterion) if rates else loss

    def _derivative_terms(self, y: Tensor, x: Tensor, rates: list[Tensor], criterion: Criterion) -> Tensor:
        """The terms from the scaled derivatives of the error y - x: those of y itself are not needed."""
        total, error, truth, scale = y.new_zeros(()), y - x, x, y.new_ones(())
        for rate, weight in zip(rates, self.weights, strict=True):
            rate, last = rate.unsqueeze(-3), scale
            truth = torch.diff(truth, dim=-2) * rate
            scale = (1 + truth.square().mean(dim=(-3, -2, -1), keepdim=True)).rsqrt()
            error = torch.diff(error, dim=-2) * (rate * (scale / last))
            if weight:
                total = total + weight * criterion(error, total.new_zeros(()).expand_as(error))
        return total
