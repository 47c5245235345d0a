"""Whether a running trial is to stop, and how far it has got."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import optuna
from optuna.exceptions import UpdateFinishedTrialError

from codes.tuning.objective import Objective
from codes.tuning.outcomes import Outcome, Verdict


class Watch:
    """Called with each evaluation of one trial; ``limit()`` gives the seconds of training that it may take, or None."""

    def __init__(self, trial: optuna.Trial, objective: Objective, limit: Callable[[], float | None]) -> None:
        self.trial, self.objective, self.limit = trial, objective, limit
        self.epoch = 0
        self.metrics: Mapping[str, float] = {}
        self.stopped = Outcome.PRUNED

    def __call__(self, epoch: int, metrics: Mapping[str, float]) -> str | None:
        """The reason to stop, or None."""
        self.epoch, self.metrics = epoch, metrics
        if epoch >= self.objective.epochs:  # there is nothing left to save
            return self._report()
        return self._over_time() or self._report()

    @property
    def projected(self) -> float | None:
        """Seconds of training that all epochs take at the pace so far."""
        if not self.epoch or "train_time" not in self.metrics:
            return None
        return self.metrics["train_time"] / self.epoch * self.objective.epochs

    def complete(self, verdict: Verdict) -> Verdict:
        """``verdict`` with what was seen of the trial, and the outcome that it was stopped for."""
        outcome = self.stopped if verdict.outcome is Outcome.PRUNED else verdict.outcome
        metrics = verdict.metrics or self.metrics
        return replace(verdict, outcome=outcome, metrics=metrics, epoch=self.epoch, projected=self.projected)

    def _over_time(self) -> str | None:
        limit, projected = self.limit(), self.projected
        if limit is None or projected is None or projected <= limit:
            return None
        self.stopped = Outcome.TIME_PRUNED
        return f"would train for {projected:.3g} s, more than the limit of {limit:.3g} s (epoch {self.epoch})"

    def _report(self) -> str | None:
        """Tell Optuna, which can prune for a single objective only, the metric that is optimised."""
        name = self.objective.metrics[0]
        if not self.objective.is_single or name not in self.metrics:
            return None
        try:
            self.trial.report(self.metrics[name], self.epoch)
        except UpdateFinishedTrialError:
            return "was closed by another coordinator"
        if self.epoch < self.objective.epochs and self.trial.should_prune():
            return f"{name} = {self.metrics[name]:.4g} at epoch {self.epoch}"
        return None
