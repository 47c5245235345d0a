"""One optimiser step of K stacked models, each with its own optimiser, learning rate and weight decay."""

from collections.abc import Sequence
from itertools import groupby

from torch import Tensor

from codes.training.optim import Optimizer
from codes.training.rows_optim import ROWS, Rows


class StackedOptimizer:
    """Steps ``optimizers``, one for each row of weights, as they would step themselves.

    All of one kind step at once: what is done around a step costs more than its mathematics. Schedule-free optimisers
    step one by one. They come in the order of ``place_of``, so that rows of one kind are neighbours.
    """

    def __init__(self, optimizers: Sequence[Optimizer], rows: Tensor, gradients: Tensor) -> None:
        self.one_by_one = [optimizer for optimizer in optimizers if optimizer.averages]
        self.together: list[tuple[list[Optimizer], Rows]] = []
        start = 0
        scheduled = [optimizer for optimizer in optimizers if not optimizer.averages]
        for kind, group in groupby(scheduled, key=lambda optimizer: optimizer.config.optimizer):
            members = list(group)
            part = slice(start, start + len(members))
            inner = ROWS[kind](rows[part], gradients[part], [member.config for member in members])
            self.together.append((members, inner))
            start = part.stop

    @staticmethod
    def place_of(optimizer: Optimizer) -> tuple[bool, str]:
        """By what they are to be sorted."""
        return optimizer.averages, optimizer.config.optimizer

    @property
    def capturable(self) -> bool:
        """Whether ``apply`` changes nothing but tensors."""
        return not self.one_by_one

    def keep(self, left: Sequence[Optimizer], rows: Tensor, gradients: Tensor) -> None:
        """Go on with those that are ``left``, whose weights and gradients are now elsewhere."""
        self.one_by_one = [optimizer for optimizer in self.one_by_one if optimizer in left]
        before, self.together, start = self.together, [], 0
        for members, inner in before:
            stay = [index for index, member in enumerate(members) if member in left]
            if stay:
                members = [members[index] for index in stay]
                part = slice(start, start + len(stay))
                inner.keep(stay, rows[part], gradients[part], [member.config for member in members])
                self.together.append((members, inner))
                start = part.stop

    def begin_step(self) -> None:
        """Set the learning rates of the next step."""
        for members, inner in self.together:
            inner.begin_step([member.learning_rate for member in members])
            for member in members:
                member.steps += 1
        for optimizer in self.one_by_one:
            optimizer.begin_step()

    def apply(self) -> None:
        """Take one step down the gradients that the rows have."""
        for _, inner in self.together:
            inner.apply()
        for optimizer in self.one_by_one:
            optimizer.apply()
