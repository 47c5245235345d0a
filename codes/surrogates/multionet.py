"""MultiONet: a deep operator network with several outputs."""

import math
from typing import ClassVar

import torch
from torch import Tensor

from codes.schema import DataSpec, MultiONetConfig
from codes.surrogates.base import Surrogate
from codes.surrogates.layers import ConditionedMLP, join, mlp


class MultiONet(Surrogate):
    r"""Scalar products of a branch net, which reads the state, and a trunk net, which reads the time.

    .. math:: x_q(t) = \frac{1}{\sqrt F} \sum_{f=1}^F b_{qf}(x_0, p) \, \tau_{qf}(t), \qquad F = \mathrm{output\_factor}

    The parameters p enter the branch net (``params_branch``), or else the trunk net, :math:`\tau_{qf}(t, p)`. The
    branch net runs once per trajectory, the trunk net once per time, or per (trajectory, time) if it reads parameters.

    Lu et al. 2021, Nature Machine Intelligence 3, 218 (DeepONet); Janssen et al. 2024, arXiv:2410.20886 (MultiONet).
    """

    stackable: ClassVar[bool] = True
    capturable: ClassVar[bool] = True
    config: MultiONetConfig

    def __init__(self, config: MultiONetConfig, spec: DataSpec) -> None:
        super().__init__(config, spec)
        n_branch = spec.n_parameters if config.params_branch else 0
        n_out = spec.n_quantities * config.output_factor
        self.branch = mlp(
            spec.n_quantities + n_branch,
            n_out,
            width=config.hidden_size,
            depth=config.branch_hidden_layers,
            activation=config.activation,
        )
        self.trunk = ConditionedMLP(
            1,
            spec.n_parameters - n_branch,
            n_out,
            width=config.hidden_size,
            depth=config.trunk_hidden_layers,
            activation=config.activation,
        )

    def forward(self, x0: Tensor, t: Tensor, p: Tensor | None = None) -> Tensor:
        self.check_inputs(x0, t, p)
        if p is None or self.config.params_branch:
            return self._products("...bqf,...tqf->...btq", self.branch(join(x0, p)), self.trunk(t.unsqueeze(-1)))
        trunk = self.trunk(t[..., None, :, None], self.trunk.condition(p).unsqueeze(-2))
        return self._products("...bqf,...btqf->...btq", self.branch(x0), trunk)

    def _products(self, equation: str, branch: Tensor, trunk: Tensor) -> Tensor:
        shape = (self.spec.n_quantities, self.config.output_factor)
        scaled = branch.unflatten(-1, shape) / math.sqrt(self.config.output_factor)
        return torch.einsum(equation, scaled, trunk.unflatten(-1, shape))
