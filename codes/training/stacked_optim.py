"""One optimiser step of K stacked models, each with its own optimiser, learning rate and weight decay."""

from collections.abc import Sequence
from itertools import groupby

from torch import Tensor

from codes.training.optim import Optimizer
from codes.training.rows_optim import Rows


class StackedOptimizer:
    """Steps ``optimizers``, one for each row of weights, as they would step themselves.

    All of one kind step at once: what is done around a step costs more than its mathematics. They come in the order of
    ``place_of``, so that rows of one kind are neighbours.
    """

    def __init__(self, optimizers: Sequence[Optimizer], rows: Tensor, gradients: Tensor) -> None:
        self.groups: list[tuple[list[Optimizer], Rows]] = []
        start = 0
        for kind, group in groupby(optimizers, key=lambda optimizer: optimizer.kind):
            members = list(group)
            part = slice(start, start + len(members))
            inner = kind(rows[part], gradients[part], [member.config for member in members])
            self._add(members, inner)
            start = part.stop

    @staticmethod
    def place_of(optimizer: Optimizer) -> str:
        """By what they are to be sorted."""
        return optimizer.kind.__name__

    def keep(self, left: Sequence[Optimizer], rows: Tensor, gradients: Tensor) -> None:
        """Go on with those that are ``left``, whose weights and gradients are now elsewhere."""
        before, self.groups, start = self.groups, [], 0
        for members, inner in before:
            stay = [index for index, member in enumerate(members) if member in left]
            if stay:
                members = [members[index] for index in stay]
                part = slice(start, start + len(stay))
                inner.keep(stay, rows[part], gradients[part], [member.config for member in members])
                self._add(members, inner)
                start = part.stop

    def _add(self, members: list[Optimizer], inner: Rows) -> None:
        self.groups.append((members, inner))
        for place, member in enumerate(members):
            member.rows, member.place = inner, place

    def begin_step(self) -> None:
        """Set the learning rates of the next step."""
        for members, inner in self.groups:
            inner.begin_step([member.learning_rate for member in members])
            for member in members:
                member.steps += 1

    def apply(self) -> None:
        """Take one step down the gradients that the rows have."""
        for _, inner in self.groups:
            inner.apply()
