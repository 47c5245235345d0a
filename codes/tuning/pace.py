"""When a study will be finished, from what its slots have done since it was started."""

import heapq
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

Clock = Callable[[], float]  # seconds


@dataclass
class Running:
    """Trials in a slot: when they began, and when they had come how far, as a fraction of their epochs.

    Several that train together count as if they trained one after the other, each for its share of the time: ``start``
    is when the present one's began.
    """

    begun: float
    start: float
    seen: float
    trials: int
    left: int
    fraction: float = 0.0

    def whole(self) -> float | None:
        """Seconds of one trial from its start to its last epoch at the speed so far; None before it has shown any."""
        return (self.seen - self.begun) / self.fraction / self.trials if self.fraction > 0 else None

    def seconds_left(self, mean: float, now: float) -> float:
        """Seconds that it still takes: to the ``mean``, or once it is beyond that, to its last epoch."""
        whole = mean if now - self.start < mean else self.whole() or 0.0
        return max(0.0, self.start + whole - now)


class Pace:
    """Wall seconds that a slot needs for one valid trial, and the estimate of what is left that follows from them.

    The seconds of all trials that ended in this launch, invalid ones too, are divided by the number of valid ones. So
    the time that is lost on invalid trials is paid by the valid ones, as it will be in the rest of the study. Before
    the first valid trial the running ones are continued to their last epoch at the speed that they have had so far:
    an upper bound where a pruner stops some of them earlier.
    """

    def __init__(self, slots: int, clock: Clock = time.monotonic) -> None:
        self.live = set(range(slots))
        self.clock = clock
        self.running: dict[int, Running] = {}
        self.spent = 0.0  # seconds of slots in ended trials
        self.valid = 0
        self.elsewhere = 0  # slots of other coordinators

    def started(self, slot: int, trials: int = 1) -> None:
        """``slot`` has trials to train."""
        now = self.clock()
        self.running[slot] = Running(now, now, now, trials, trials)

    def advanced(self, slot: int, fraction: float) -> None:
        """The trials in ``slot`` have done ``fraction`` of its epochs."""
        if slot in self.running:
            self.running[slot].seen = self.clock()
            self.running[slot].fraction = fraction

    def finished(self, slot: int, valid: bool) -> None:
        """A trial in ``slot`` has ended."""
        if slot in self.running:
            now, running = self.clock(), self.running[slot]
            self.spent += now - running.start
            self.valid += valid
            running.start, running.left = now, running.left - 1
            if not running.left:
                del self.running[slot]

    def lost(self, slot: int) -> None:
        """``slot`` is given up."""
        self.live.discard(slot)
        self.running.pop(slot, None)

    def seconds_per_valid(self) -> float | None:
        """Mean over this launch; None while nothing is known."""
        if self.valid:
            return self.spent / self.valid
        whole = [seconds for trial in self.running.values() if (seconds := trial.whole()) is not None]
        return sum(whole) / len(whole) if whole else None

    def seconds_left(self, missing: int) -> float | None:
        """Until ``missing`` more trials are valid, each of the mean length, the running ones as far as they are.

        Each slot starts its next trial when it has ended one: the last of the missing ones ends the study, while other
        slots may have nothing left to do. Slots elsewhere are taken to be as fast, and anywhere in their trials. None
        without a mean or without a slot.
        """
        mean = self.seconds_per_valid()
        if missing <= 0:
            return 0.0
        if mean is None or not self.live:
            return None
        now = self.clock()
        ends = [trial.seconds_left(mean, now) for trial in self.running.values()]
        ends += [mean] * (len(self.live) - len(ends))
        ends += [mean * (index + 0.5) / self.elsewhere for index in range(self.elsewhere)]
        heapq.heapify(ends)
        for _ in range(missing - 1):
            heapq.heapreplace(ends, ends[0] + mean)
        return ends[0]


def as_time(seconds: float) -> str:
    """``0:07``, ``12:34``, ``1:02:03``, ``3 d 04:05``."""
    minutes, rest = divmod(math.ceil(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours >= 24:
        return f"{hours // 24} d {hours % 24:02d}:{minutes:02d}"
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
