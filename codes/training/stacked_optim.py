"""One optimiser step of K stacked models, each with its own optimiser, learning rate and weight decay."""

from collections.abc import Sequence

from torch import Tensor

from codes.training.optim import Optimizer
from codes.training.rows_optim import ROWS, Rows


class StackedOptimizer:
    """Steps ``optimizers``, one for each row of weights, as they would step themselves.

    All of one kind step at once: what is done around a step costs more than its mathematics. Schedule-free optimisers
    step one by one. Rows of one kind are neighbours (``place_of``).
    """

    def __init__(self, optimizers: Sequence[Optimizer], rows: Tensor, gradients: Tensor) -> None:
        self.place(optimizers)
        self.together: dict[str, Rows] = {}
        for kind, (members, part) in self.kinds.items():
            configs = [member.config for member in members]
            self.together[kind] = ROWS[kind](rows[part], gradients[part], configs)

    @staticmethod
    def place_of(optimizer: Optimizer) -> tuple[bool, str]:
        """By what they are to be sorted."""
        return optimizer.averages, optimizer.config.optimizer

    @property
    def capturable(self) -> bool:
        """Whether ``apply`` changes nothing but tensors."""
        return not self.one_by_one

    def place(self, optimizers: Sequence[Optimizer]) -> None:
        """Find those of each kind, and which rows are theirs."""
        self.one_by_one = [optimizer for optimizer in optimizers if optimizer.averages]
        self.kinds: dict[str, tuple[list[Optimizer], slice]] = {}
        for kind in ROWS:
            index = [i for i, other in enumerate(optimizers) if not other.averages and other.config.optimizer == kind]
            if index:
                part = slice(index[0], index[-1] + 1)
                self.kinds[kind] = (list(optimizers[part]), part)

    def keep(self, left: Sequence[Optimizer], rows: Tensor, gradients: Tensor) -> None:
        """Go on with those that are ``left``, whose weights and gradients are now elsewhere."""
        before = {kind: members for kind, (members, _) in self.kinds.items()}
        self.place(left)
        for kind, (members, part) in self.kinds.items():
            index = [before[kind].index(member) for member in members]
            self.together[kind].keep(index, rows[part], gradients[part], [member.config for member in members])

    def prepare(self) -> None:
        """Make what steps."""
        for optimizer in self.one_by_one:
            optimizer.prepare()

    def begin_step(self) -> None:
        """Set the learning rates of the next step."""
        for kind, (members, _) in self.kinds.items():
            self.together[kind].begin_step([member.learning_rate for member in members])
            for member in members:
                member.steps += 1
        for optimizer in self.one_by_one:
            optimizer.begin_step()

    def apply(self) -> None:
        """Take one step down the gradients that the rows have."""
        for kind in self.kinds:
            self.together[kind].apply()
        for optimizer in self.one_by_one:
            optimizer.apply()
