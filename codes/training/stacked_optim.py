"""One optimiser step of K stacked models, each with its own optimiser, learning rate and weight decay."""

from collections.abc import Sequence

from codes.training.optim import KINDS, Optimizer


class StackedOptimizer:
    """Steps ``optimizers``, one for each row of weights, as they would step themselves.

    All of one kind are the parameter groups of one optimiser of PyTorch: what is done around a step costs more than its
    mathematics. Schedule-free optimisers step one by one.
    """

    def __init__(self, optimizers: Sequence[Optimizer]) -> None:
        self.one_by_one = [optimizer for optimizer in optimizers if optimizer.averages]
        self.together = [
            (those, KINDS[kind]([dict(optimizer.inner.param_groups[0]) for optimizer in those]))
            for kind in KINDS
            if (those := [other for other in optimizers if not other.averages and other.config.optimizer == kind])
        ]

    def keep(self, left: Sequence[Optimizer]) -> None:
        """Go on with those that are ``left``."""
        self.one_by_one = [optimizer for optimizer in self.one_by_one if optimizer in left]
        for those, inner in self.together:
            pairs = zip(those, inner.param_groups, strict=True)
            inner.param_groups = [group for optimizer, group in pairs if optimizer in left]
            for gone in [optimizer for optimizer in those if optimizer not in left]:
                inner.state.pop(gone.row, None)
                those.remove(gone)

    def step(self) -> None:
        """Take one step."""
        for those, inner in self.together:
            for optimizer, group in zip(those, inner.param_groups, strict=True):
                group["lr"] = optimizer.learning_rate
                optimizer.steps += 1
            inner.step()
        for optimizer in self.one_by_one:
            optimizer.apply()
