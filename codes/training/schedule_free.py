r"""Schedule-free AdamW and SGD of rows of weights (Defazio et al. 2024, arXiv:2405.15682).

A step of learning rate :math:`\eta` moves :math:`z` down the gradient at :math:`y`, and :math:`x` is the mean of all
:math:`z` so far:

.. math:: z \leftarrow z - \eta u(y), \quad x \leftarrow (1 - 1/t) x + z/t, \quad y = (1 - \beta) z + \beta x

Rows are :math:`y` while they train, and :math:`x` is evaluated. It follows from the other two, so it is not kept.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from codes.schema import SurrogateConfig
from codes.training.rows_optim import BETAS, EPSILON, Rows


class FreeRows(Rows):
    r"""What the two have in common; their ``directions`` differ, and what is their :math:`\beta`."""

    def __init__(self, rows: Tensor, gradients: Tensor, configs: Sequence[SurrogateConfig]) -> None:
        super().__init__(rows, gradients, configs)
        self.values["z"].copy_(rows)
        # Of step t: 1 / t, and what the weights of all squares of gradients so far add up to.
        self.share, self.correction = self.numbers = rows.new_zeros(2)

    def place(self, rows: Tensor, gradients: Tensor, configs: Sequence[SurrogateConfig]) -> None:
        super().place(rows, gradients, configs)
        self.betas = rows.new_tensor([[self.beta(config)] for config in configs])

    def beta(self, config: SurrogateConfig) -> float:
        """The share of the mean in the point at which gradients are taken."""
        raise NotImplementedError

    def directions(self) -> Tensor:
        """:math:`u`, [K, N], in the place of the gradients."""
        raise NotImplementedError

    def begin_step(self, rates: Sequence[float]) -> None:
        super().begin_step(rates)
        numbers = torch.tensor([1 / self.n_steps, 1 - BETAS[1] ** self.n_steps])
        self.numbers.copy_(numbers, non_blocking=True)

    def apply(self) -> None:
        z, directions = self.values["z"], self.directions()
        self.rows.lerp_(z, self.share)
        self.rows.addcmul_(self.rates * (self.betas * (1 - self.share) - 1), directions)
        z.addcmul_(self.rates, directions, value=-1)

    def average(self, place: int) -> Tensor:
        return self.rows[place].lerp(self.values["z"][place], 1 - 1 / self.betas[place])


class FreeAdamWRows(FreeRows):
    """Divides gradients by their root mean square; no mean of them, as that of the weights takes its place."""

    STATE = ("z", "exp_avg_sq")

    def beta(self, config: SurrogateConfig) -> float:
        return BETAS[0]

    def directions(self) -> Tensor:
        squares = self.values["exp_avg_sq"]
        squares.mul_(BETAS[1]).addcmul_(self.gradients, self.gradients, value=1 - BETAS[1])
        self.gradients.div_((squares / self.correction).sqrt_().add_(EPSILON))
        return self.gradients.addcmul_(self.decays, self.rows)


class FreeSGDRows(FreeRows):
    """Takes gradients as they are."""

    STATE = ("z",)

    def beta(self, config: SurrogateConfig) -> float:
        return config.momentum

    def directions(self) -> Tensor:
        return self.gradients.addcmul_(self.decays, self.rows)
