"""Stop trainings that would take much longer than those before them.

After a warm-up of max(10, a tenth of the budget) valid trials the limit is the mean plus the standard deviation of
their training times, projected to all epochs where they were stopped earlier. It is fixed then, and kept in the study
for each model of device, and there for each number of trials that began together as one stack (``slot.population``):
only trials of stacks of the same size are compared, by their shares at the first evaluation.

Two guards keep it from stopping nearly everything:

- It is never below 1.5 times the median. Trials of equal cost have a standard deviation near zero, and noise alone
  would lift half of them over their mean.
- By Cantelli's inequality at most half of all trials lie above the mean plus the standard deviation, whatever their
  distribution. So if more than half of the last ten to twenty trials since then were stopped, training times have
  changed (other load, another region of the space), and the limit is taken anew, from those trials. Not of all since
  then: after a hundred at the old pace it would take as many that are stopped.
"""

import statistics
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from optuna.trial import FrozenTrial

from codes.tuning.ledger import Ledger, outcome_of, record_of
from codes.tuning.outcomes import VALID, Outcome

PREFIX = "time_limit:"  # of the study's user attributes
FEWEST = 10  # trials that a limit is made or judged from
LATEST = 20  # trials at most that it is judged from
ABOVE_MEDIAN = 1.5


@dataclass(frozen=True)
class TimeLimit:
    """``seconds`` of training for all epochs that no trial may exceed, and the trials it was made from.

    ``after`` is the number of the youngest of them.
    """

    seconds: float
    mean: float
    deviation: float
    median: float
    trials: int
    after: int


class TimePruning:
    """The limits of one study; asked by every running trial, renewed as trials end."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.warm_up = max(FEWEST, -(-ledger.target // 10))
        self.lock = threading.Lock()  # of the slots' threads
        kept = ledger.study.user_attrs.items()
        self.limits = {key.removeprefix(PREFIX): TimeLimit(**limit) for key, limit in kept if key.startswith(PREFIX)}

    def limit(self, hardware: str, together: int = 1) -> float | None:
        """Seconds of training allowed on a model of device, None while there is no limit."""
        known = self.limits.get(_kind(hardware, together))
        return known.seconds if known else None

    def renew(self, hardware: str, together: int = 1) -> str | None:
        """Look at the trials that have ended; what to tell the user when their limit is another now."""
        with self.lock:
            return self._renew(hardware, together)

    def _renew(self, hardware: str, together: int) -> str | None:
        kind = _kind(hardware, together)
        before = self.limits.get(kind)
        stored = self.ledger.study.user_attrs.get(PREFIX + kind)
        now = TimeLimit(**stored) if stored else None
        ended = [trial for trial in self.ledger.trials() if _kind_of(trial) == kind]
        due = next_limit(ended, now, self.warm_up)
        if due is not None:
            self.ledger.study.set_user_attr(PREFIX + kind, asdict(due))
            now = due
        if now is None or now == before:
            return None
        self.limits[kind] = now
        return (
            f"trainings projected to take more than {now.seconds:.3g} s on {kind} are stopped from now on: "
            f"{now.trials} trials took {now.mean:.3g} ± {now.deviation:.3g} s, median {now.median:.3g} s"
        )


def next_limit(ended: Sequence[FrozenTrial], now: TimeLimit | None, warm_up: int) -> TimeLimit | None:
    """The limit to be set after the trials ``ended`` of one model of device, oldest first; None: it stays as it is."""
    if now is None:
        measured = [trial for trial in ended if outcome_of(trial) in VALID and _projected(trial)]
        return make_limit(measured[:warm_up]) if len(measured) >= warm_up else None
    judged = [trial for trial in ended if outcome_of(trial) in VALID | {Outcome.TIME_PRUNED} and _projected(trial)]
    since = [trial for trial in judged if trial.number > now.after][-LATEST:]
    stopped = sum(outcome_of(trial) is Outcome.TIME_PRUNED for trial in since)
    return make_limit(since) if len(since) >= FEWEST and stopped > len(since) / 2 else None


def make_limit(trials: Sequence[FrozenTrial]) -> TimeLimit:
    """Mean plus standard deviation of the projected training times, or 1.5 times their median if that is more."""
    seconds = [_projected(trial) for trial in trials]
    mean, deviation, median = statistics.mean(seconds), statistics.pstdev(seconds), statistics.median(seconds)
    youngest = max(trial.number for trial in trials)
    return TimeLimit(max(mean + deviation, ABOVE_MEDIAN * median), mean, deviation, median, len(trials), youngest)


def _kind(hardware: str, together: int) -> str:
    return hardware if together == 1 else f"{hardware}, {together} trials together"


def _kind_of(trial: FrozenTrial) -> str | None:
    record = record_of(trial)
    return _kind(record["hardware"], record.get("together", 1)) if "hardware" in record else None


def _projected(trial: FrozenTrial) -> float:
    return float(record_of(trial).get("projected") or 0.0)
