"""Every trial's outcome, kept with it in the database, and the budget that the valid ones are counted against."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import asdict, dataclass
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, Trial, TrialState

from codes.limits import seed_after
from codes.tuning.outcomes import VALID, Outcome, Verdict
from codes.tuning.presence import Presence
from codes.tuning.pruners import RUNG

OUTCOME, RECORD, CLAIM = "outcome", "record", "claim"  # user attributes of a trial
AGAIN = "again"  # of one that was queued anew after a crash
COMPANION = "companion"  # of one that was asked for only to train with another
RECORDED = ("reason", "duration", "traceback", "metrics", "epoch", "projected", "peak_memory", "together")
LOST = {Outcome.CRASHED, Outcome.INTERRUPTED}  # through no fault of what was tried
STATES = {
    Outcome.COMPLETE: TrialState.COMPLETE,
    Outcome.PRUNED: TrialState.PRUNED,
    Outcome.DIVERGED: TrialState.PRUNED,
    Outcome.TIME_PRUNED: TrialState.PRUNED,
    Outcome.OUT_OF_MEMORY: TrialState.PRUNED,
    Outcome.CRASHED: TrialState.FAIL,
    Outcome.FAILED: TrialState.FAIL,
    Outcome.INTERRUPTED: TrialState.FAIL,
    Outcome.LEFT_OUT: TrialState.FAIL,
}


@dataclass(frozen=True)
class Claim:
    """Who runs a trial, on which device of which model, from which seed, with how many CPU threads and which
    ``trainer.gradients``: kept with the trial before it starts."""

    coordinator: str
    device: str
    hardware: str
    seed: int
    threads: int | None = None
    gradients: str | None = None


class Ledger:
    """The trials of one study against its budget of ``target`` valid ones; any number of coordinators share them.

    ``claiming`` makes a lock that one coordinator holds at a time.
    """

    def __init__(
        self, study: optuna.Study, target: int, presence: Presence, claiming: Callable[[], AbstractContextManager[None]]
    ) -> None:
        self.study, self.target, self.presence, self.claiming = study, target, presence, claiming

    def trials(self) -> list[FrozenTrial]:
        """Every trial so far, oldest first; not to be changed."""
        return self.study.get_trials(deepcopy=False)

    def valid(self) -> int:
        """Valid trials so far."""
        return sum(outcome_of(trial) in VALID for trial in self.trials())

    def is_full(self) -> bool:
        """Whether the study is finished."""
        return self.valid() >= self.target

    def left(self) -> int:
        """Trials that may be claimed now."""
        return self.target - sum(_is_taken(trial) for trial in self.trials())

    def claim(
        self,
        device: str,
        hardware: str,
        seed: int,
        held: Mapping[str, Any] | None = None,
        threads: int | None = None,
        gradients: str | None = None,
    ) -> Trial | None:
        """A new trial, signed, or None while the valid and the running ones fill the budget.

        With ``held`` it goes with another one and has these values; None also while a queued trial is to come first.
        Its seed is ``seed`` plus its number. Counting, asking and signing are one step for all coordinators, so that
        the budget is exact and an unsigned trial that runs is certainly one of a coordinator that died.
        """
        with self.claiming():
            if self.left() <= 0:
                return None
            if held is not None and any(trial.state is TrialState.WAITING for trial in self.trials()):
                return None
            if held:
                self.study.enqueue_trial(
                    dict(held), user_attrs={COMPANION: True}
                )  # nobody else asks in between; the sampler proposes the rest
            trial = self.study.ask()
            own = seed_after(seed, trial.number)
            claim = Claim(self.presence.name, device, hardware, own, threads, gradients)
            trial.set_user_attr(CLAIM, asdict(claim))
            if self.left() < 0:  # the claim broke before the trial was made, and somebody else took the last one
                self._settle(trial, Verdict(Outcome.INTERRUPTED, "was asked for while another coordinator did so too"))
                return None
            return trial

    def settle(self, trial: Trial, verdict: Verdict, values: Sequence[float] = ()) -> bool:
        """Close ``trial``, complete for Optuna if there are ``values``; its outcome first, so that none ends without.

        What it tried waits anew if it was a queued configuration that was interrupted, or crashed for the first time;
        not while somebody claims a companion, who would be given it instead.
        False if it was closed before, by another coordinator that took this one for dead, and with another outcome:
        that stays.
        """
        with self.claiming() if verdict.outcome in LOST else nullcontext():
            return self._settle(trial, verdict, values)

    def _settle(self, trial: Trial, verdict: Verdict, values: Sequence[float] = ()) -> bool:
        fields = asdict(verdict)
        record = {name: fields[name] for name in RECORDED} | {"values": list(values)}
        try:
            trial.set_user_attr(RECORD, record)
            trial.set_user_attr(OUTCOME, verdict.outcome.value)
            self._tell(trial, verdict.outcome, values)
        except UpdateFinishedTrialError:
            return outcome_of(self._stored(trial)) is verdict.outcome
        return True

    def _tell(self, trial: Trial, outcome: Outcome, values: Sequence[float]) -> None:
        """Raises ``UpdateFinishedTrialError`` if it was closed meanwhile."""
        state = TrialState.COMPLETE if values else STATES[outcome]
        try:
            self.study.tell(trial, values=list(values) or None, state=state)
        except ValueError as error:
            if not self._stored(trial).state.is_finished():
                raise
            raise UpdateFinishedTrialError(str(error)) from error
        if outcome in LOST:
            self._queue_again(self._stored(trial), outcome)

    def _stored(self, trial: Trial) -> FrozenTrial:
        return self.study._storage.get_trial(trial._trial_id)

    def _queue_again(self, lost: FrozenTrial, outcome: Outcome) -> None:
        queued = lost.system_attrs.get("fixed_params")
        crashed = outcome is Outcome.CRASHED
        if queued is None or COMPANION in lost.user_attrs or (crashed and AGAIN in lost.user_attrs):
            return
        own = {key for key in lost.user_attrs if key in (OUTCOME, RECORD, CLAIM) or key.startswith(RUNG)}
        kept = {key: value for key, value in lost.user_attrs.items() if key not in own}
        self.study.enqueue_trial(queued, user_attrs=kept | ({AGAIN: True} if crashed else {}))

    def close_dead(self) -> int:
        """Close the trials that dead coordinators left RUNNING; how many of them are closed as ``crashed``.

        One whose outcome was written already, just before its coordinator died, ends with that.
        """
        crashed = 0
        with self.claiming():
            self.presence.bury()
            living = self.presence.living()
            for frozen in self.trials():
                if frozen.state is not TrialState.RUNNING or _owner(frozen) in living:
                    continue
                trial = Trial(self.study, frozen._trial_id)
                if OUTCOME in frozen.user_attrs:
                    with suppress(UpdateFinishedTrialError):  # its coordinator was only asleep, and told it just now
                        self._tell(trial, Outcome(frozen.user_attrs[OUTCOME]), frozen.user_attrs[RECORD]["values"])
                    continue
                reason = f"its coordinator ended without closing it ({_owner(frozen)})"
                crashed += self._settle(trial, Verdict(Outcome.CRASHED, reason))
        return crashed


def _is_taken(trial: FrozenTrial) -> bool:
    return trial.state is TrialState.RUNNING or outcome_of(trial) in VALID


def _owner(trial: FrozenTrial) -> str:
    return str(trial.user_attrs.get(CLAIM, {}).get("coordinator", "killed before it had signed"))


def outcome_of(trial: FrozenTrial) -> Outcome | None:
    """Outcome of a finished trial, None for one that has not ended.

    One that failed for Optuna has no result, whatever stands there: its coordinator, which was only asleep, has written
    that just when another one closed the trial.
    """
    if not trial.state.is_finished():
        return None
    if OUTCOME in trial.user_attrs:
        outcome = Outcome(trial.user_attrs[OUTCOME])
        return Outcome.CRASHED if trial.state is TrialState.FAIL and outcome in VALID else outcome
    told_by_others = {TrialState.COMPLETE: Outcome.COMPLETE, TrialState.PRUNED: Outcome.PRUNED}
    return told_by_others.get(trial.state, Outcome.FAILED)


def record_of(trial: FrozenTrial) -> dict[str, Any]:
    """What is kept of ``trial``, where known: the fields of its ``Claim``, and of its ``Verdict`` in ``RECORDED``."""
    return {**trial.user_attrs.get(CLAIM, {}), **trial.user_attrs.get(RECORD, {})}


def counts(trials: Iterable[FrozenTrial]) -> dict[Outcome, int]:
    """How many trials ended in each way, in the order of ``Outcome``; ways that did not occur are left out."""
    counter = Counter(outcome_of(trial) for trial in trials)
    return {outcome: counter[outcome] for outcome in Outcome if counter[outcome]}
