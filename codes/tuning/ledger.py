"""Every trial's outcome, kept with it in the database, and the budget that the valid ones are counted against."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import optuna
from optuna.trial import FrozenTrial, Trial, TrialState

from codes.tuning.outcomes import VALID, Outcome, Verdict

OUTCOME, RECORD, CLAIM = "outcome", "record", "claim"  # user attributes of a trial
STATES = {
    Outcome.COMPLETE: TrialState.COMPLETE,
    Outcome.PRUNED: TrialState.PRUNED,
    Outcome.DIVERGED: TrialState.PRUNED,
    Outcome.TIME_PRUNED: TrialState.PRUNED,
    Outcome.OUT_OF_MEMORY: TrialState.PRUNED,
    Outcome.CRASHED: TrialState.FAIL,
    Outcome.FAILED: TrialState.FAIL,
    Outcome.INTERRUPTED: TrialState.FAIL,
}


@dataclass(frozen=True)
class Claim:
    """Who runs a trial, on which device, from which seed: kept with the trial before it starts."""

    coordinator: str
    device: str
    seed: int


class Ledger:
    """The trials of one study against its budget of ``target`` valid ones."""

    def __init__(self, study: optuna.Study, target: int) -> None:
        self.study = study
        self.target = target

    def trials(self) -> list[FrozenTrial]:
        """Every trial so far, oldest first; not to be changed."""
        return self.study.get_trials(deepcopy=False)

    def valid(self) -> int:
        """Valid trials so far."""
        return sum(outcome_of(trial) in VALID for trial in self.trials())

    def is_full(self) -> bool:
        """Whether the study is finished."""
        return self.valid() >= self.target

    def claim(self) -> Trial | None:
        """A new trial, or None while the valid and the running ones fill the budget; one caller at a time."""
        taken = sum(trial.state is TrialState.RUNNING or outcome_of(trial) in VALID for trial in self.trials())
        return self.study.ask() if taken < self.target else None

    def sign(self, trial: Trial, claim: Claim) -> None:
        """Keep with ``trial`` who runs it."""
        trial.set_user_attr(CLAIM, asdict(claim))

    def settle(self, trial: Trial, verdict: Verdict, values: Sequence[float] = ()) -> None:
        """Close ``trial``, with the ``values`` of a complete one; its outcome first, so that none ends without."""
        fields = asdict(verdict)
        trial.set_user_attr(RECORD, {name: fields[name] for name in ("reason", "duration", "traceback", "metrics")})
        trial.set_user_attr(OUTCOME, verdict.outcome.value)
        complete = verdict.outcome is Outcome.COMPLETE
        self.study.tell(trial, values=list(values) if complete else None, state=STATES[verdict.outcome])

    def close_dead(self) -> int:
        """Close the trials that a dead coordinator left RUNNING as ``crashed``; only for the one live coordinator."""
        dead = [trial for trial in self.trials() if trial.state is TrialState.RUNNING]
        for frozen in dead:
            owner = frozen.user_attrs.get(CLAIM, {}).get("coordinator", "unknown")
            reason = f"its coordinator ended without closing it ({owner})"
            self.settle(Trial(self.study, frozen._trial_id), Verdict(Outcome.CRASHED, reason))
        return len(dead)


def outcome_of(trial: FrozenTrial) -> Outcome | None:
    """Outcome of a finished trial, None for one that has not ended."""
    if not trial.state.is_finished():
        return None
    if OUTCOME in trial.user_attrs:
        return Outcome(trial.user_attrs[OUTCOME])
    told_by_others = {TrialState.COMPLETE: Outcome.COMPLETE, TrialState.PRUNED: Outcome.PRUNED}
    return told_by_others.get(trial.state, Outcome.FAILED)


def record_of(trial: FrozenTrial) -> dict[str, Any]:
    """What is kept of ``trial``: coordinator, device, seed, reason, duration, traceback, metrics, where known."""
    return {**trial.user_attrs.get(CLAIM, {}), **trial.user_attrs.get(RECORD, {})}


def counts(trials: Iterable[FrozenTrial]) -> dict[Outcome, int]:
    """How many trials ended in each way, in the order of ``Outcome``; ways that did not occur are left out."""
    counter = Counter(outcome_of(trial) for trial in trials)
    return {outcome: counter[outcome] for outcome in Outcome if counter[outcome]}
