"""FullyConnected: one network from state, time and parameters to the state at that time."""

from typing import ClassVar

from torch import Tensor

from codes.schema import DataSpec, FullyConnectedConfig
from codes.surrogates.base import Surrogate
from codes.surrogates.layers import ConditionedMLP, join


class FullyConnected(Surrogate):
    r"""One network for every (trajectory, time) pair.

    .. math:: x(t) = N(x_0, t, p) = N'(W_t t + b + W_{xp} [x_0; p])

    The first layer is evaluated once per time and once per trajectory, and added; only the rest sees every pair.
    """

    stackable: ClassVar[bool] = True
    capturable: ClassVar[bool] = True
    config: FullyConnectedConfig

    def __init__(self, config: FullyConnectedConfig, spec: DataSpec) -> None:
        super().__init__(config, spec)
        self.net = ConditionedMLP(
            1,
            spec.n_quantities + spec.n_parameters,
            spec.n_quantities,
            width=config.hidden_size,
            depth=config.num_hidden_layers,
            activation=config.activation,
        )

    def forward(self, x0: Tensor, t: Tensor, p: Tensor | None = None) -> Tensor:
        self.check_inputs(x0, t, p)
        return self.net(t[..., None, :, None], self.net.condition(join(x0, p)).unsqueeze(-2))
