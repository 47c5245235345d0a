"""Whether a running trial is to stop, and how far it has got."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import optuna
from optuna.exceptions import UpdateFinishedTrialError

from codes.metrics import with_unit
from codes.tuning.objective import Objective
from codes.tuning.outcomes import Outcome, Verdict
from codes.tuning.pruners import ParetoHalving
from codes.tuning.warm_start import KNOWN


class Watch:
    """Called with each evaluation of one trial.

    ``limit(n)`` gives the seconds of training that it may take, or None, if it began together with n - 1 others.
    A trial of a known configuration enters rungs, but no pruner stops it: what others are held against is to be seen to
    its end, also where one that was interrupted, or is better at first, stands beside it.
    """

    def __init__(self, trial: optuna.Trial, objective: Objective, limit: Callable[[int], float | None]) -> None:
        self.trial, self.objective, self.limit = trial, objective, limit
        self.is_known = KNOWN in trial.user_attrs
        self.epoch = 0
        self.metrics: Mapping[str, float] = {}
        self.stopped = Outcome.PRUNED
        self.together = 1
        self.projected: float | None = None  # seconds of training that all epochs take at the pace so far

    def __call__(self, epoch: int, metrics: Mapping[str, float], together: int = 1) -> str | None:
        """The reason to stop, or None, ``together`` being the trials that began as one stack."""
        self.epoch, self.metrics, self.together = epoch, metrics, together
        self._project()
        if self._is_last:  # there is nothing left to save
            return self._report()
        return self._over_time() or self._report()

    def _project(self) -> None:
        """Of a stack only the first evaluation counts: later a trial's share grows with each one that has left."""
        first = self.together == 1 or self.projected is None
        if first and self.epoch and "train_time" in self.metrics:
            self.projected = self.metrics["train_time"] / self.epoch * self.objective.epochs

    def complete(self, verdict: Verdict) -> Verdict:
        """``verdict`` with what was seen of the trial, and the outcome that it was stopped for."""
        outcome = self.stopped if verdict.outcome is Outcome.PRUNED else verdict.outcome
        metrics = verdict.metrics or self.metrics
        return replace(verdict, outcome=outcome, metrics=metrics, epoch=self.epoch, projected=self.projected)

    def _over_time(self) -> str | None:
        limit, projected = self.limit(self.together), self.projected
        if limit is None or projected is None or projected <= limit:
            return None
        self.stopped = Outcome.TIME_PRUNED
        return f"would train for {projected:.3g} s, more than the limit of {limit:.3g} s (epoch {self.epoch})"

    def _report(self) -> str | None:
        """Tell the pruner how far the trial has got; the reason to stop if it says so."""
        if not self.objective.are_in(self.metrics):
            return None
        try:
            stops = self._reported() if self.objective.is_single else self._entered_rung()
        except UpdateFinishedTrialError:
            return "was closed by another coordinator"
        if not stops or self.is_known:
            return None
        pairs = zip(self.objective.metrics, self.objective.values(self.metrics), strict=True)
        return f"{', '.join(f'{name} = {with_unit(name, value)}' for name, value in pairs)} at epoch {self.epoch}"

    @property
    def _is_last(self) -> bool:
        return self.epoch >= self.objective.epochs

    def _reported(self) -> bool:
        """Of a single objective Optuna keeps the value of each evaluation, the last one too."""
        self.trial.report(self.metrics[self.objective.metrics[0]], self.epoch)
        return not self._is_last and self.trial.should_prune()

    def _entered_rung(self) -> bool:
        """Of several Optuna neither keeps anything nor prunes."""
        study = self.trial.study
        if self._is_last or not isinstance(study.pruner, ParetoHalving):
            return False
        losses = self.objective.losses(self.objective.values(self.metrics))
        return study.pruner.enter(self.trial, self.epoch, losses) and study.pruner.prune(study, self.trial)
