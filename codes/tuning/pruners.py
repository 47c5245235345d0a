"""A pruner for several objectives, in which Optuna's own refuse to work."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from optuna import Study, Trial
from optuna.pruners import BasePruner
from optuna.trial import FrozenTrial

RUNG = "rung:"  # of a trial's user attributes; after it comes the number of the rung


class ParetoHalving(BasePruner):
    """Asynchronous successive halving by non-dominated fronts.

    Rung ``i`` is at epoch ``min_resource * reduction_factor ** i``. A trial that has reached it is compared, by its
    losses there, with all trials that were there before, whatever became of them. Fronts are counted from the best: the
    first is what no other trial dominates, the second what then is left undominated, and so on. A trial goes on if its
    front begins within the best ``1 / reduction_factor`` of the rung. So a cheap trial goes on however inaccurate, as
    long as nothing at its rung is as cheap and more accurate; and one trial that is alone at a rung always does.

    The rungs are kept with the trials, as user attributes, so that they outlive the process, and all coordinators of
    a study share them.

    Sources: L. Li et al., A System for Massively Parallel Hyperparameter Tuning, arXiv:1810.05934; R. Schmucker et
    al., Multi-objective Asynchronous Successive Halving, arXiv:2106.12639, with the whole of the last front that
    has a place among the best, instead of a part of it.
    """

    def __init__(self, min_resource: int, reduction_factor: int, bootstrap_count: int) -> None:
        """``bootstrap_count`` trials pass each rung before any is stopped there.

        Raises ``ValueError`` for a number out of range.
        """
        if min_resource < 1 or reduction_factor < 2 or bootstrap_count < 0:
            raise ValueError(
                "min_resource (epochs) must be at least 1, reduction_factor at least 2 and bootstrap_count not "
                f"negative, but they are {min_resource}, {reduction_factor} and {bootstrap_count}"
            )
        self.min_resource, self.reduction_factor, self.bootstrap_count = min_resource, reduction_factor, bootstrap_count

    def rungs(self, epoch: int) -> list[int]:
        """Epochs of the rungs up to ``epoch``."""
        rungs, rung = [], self.min_resource
        while rung <= epoch:
            rungs.append(rung)
            rung *= self.reduction_factor
        return rungs

    def enter(self, trial: Trial, epoch: int, losses: Sequence[float]) -> bool:
        """Write down the ``losses`` of ``trial`` at the highest rung up to ``epoch``; False if there is no new one."""
        rungs = self.rungs(epoch)
        key = f"{RUNG}{len(rungs) - 1}"
        if not rungs or key in trial.user_attrs:
            return False
        trial.set_user_attr(key, list(losses))
        return True

    def prune(self, study: Study, trial: FrozenTrial | Trial) -> bool:
        """Whether ``trial`` is to stop at the last rung that it has entered."""
        key = max((name for name in trial.user_attrs if name.startswith(RUNG)), key=_number, default=None)
        if key is None:
            return False
        others = [
            other.user_attrs[key]
            for other in study.get_trials(deepcopy=False)
            if key in other.user_attrs and other.number != trial.number
        ]
        best = max(1, (len(others) + 1) // self.reduction_factor)
        return len(others) >= self.bootstrap_count and in_better_fronts(trial.user_attrs[key], others) >= best


def _number(key: str) -> int:
    return int(key.removeprefix(RUNG))


def in_better_fronts(point: Sequence[float], others: Sequence[Sequence[float]]) -> int:
    """How many of ``others`` lie in a front before that of ``point``; less is better in each coordinate."""
    if not others:
        return 0
    points = np.array(others)  # [N, M]
    beats = _dominate(points[:, None], points)  # [N, N], row beats column
    beats_point = _dominate(points, np.array(point))
    left = np.ones(len(points), bool)
    while (left & beats_point).any():
        left &= beats[left].any(0)
    return int((~left).sum())


def _dominate(ones: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.bool_]:
    return np.logical_and((ones <= others).all(-1), (ones < others).any(-1))
