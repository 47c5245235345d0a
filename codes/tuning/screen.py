"""What a user sees while a study runs."""

import logging
import math
import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from optuna.trial import FrozenTrial
from tqdm import tqdm

from codes.metrics import with_unit
from codes.tuning.bars import Bars, Line, room
from codes.tuning.front import dominates
from codes.tuning.ledger import counts, outcome_of
from codes.tuning.objective import Objective
from codes.tuning.outcomes import VALID, Outcome, Verdict
from codes.tuning.pace import Clock, Pace, as_time

log = logging.getLogger(__name__)
REFRESH = 0.5  # seconds between two drawings of the bars
HEARTBEAT = 60.0  # seconds between two lines of a log without a terminal


def emit(text: str = "") -> None:
    """Print ``text``, above any bar, and keep it in the log file. A study does not end with whoever reads it."""
    for line in text.splitlines():
        log.info(line)
    try:
        tqdm.write(text)
        sys.stdout.flush()
    except OSError as error:
        log.warning("nothing can be printed any more: %s", error.strerror)
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


@dataclass
class Slot:
    """What a slot does: which trials it trains and how far they have come, or without any its ``state``."""

    device: str
    state: str = "starting"
    numbers: list[int] = field(default_factory=list)
    epochs: int = 0
    epoch: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)

    def progress(self) -> str:
        """Trial and epoch, aligned with those of other slots."""
        if not self.numbers:
            return self.state
        others = f"+{len(self.numbers) - 1}" if len(self.numbers) > 1 else ""
        return f"#{f'{self.numbers[0]}{others}':<4s} epoch {self.epoch:{len(str(self.epochs))}d}/{self.epochs}"


class Screen:
    """Progress of one study: bars on a terminal, else a line per finished trial and one a minute that shows life.

    Any thread may tell what has happened. That only writes it down: one thread of the screen's own draws, every
    ``interval`` seconds, so that no training waits for a terminal.
    """

    def __init__(
        self,
        objective: Objective,
        target: int,
        trials: Sequence[FrozenTrial],
        slots: Sequence[str],
        *,
        timeout: float | None = None,
        clock: Clock = time.monotonic,
        interval: float | None = None,
    ) -> None:
        self.objective = objective
        self.target = target
        self.ended: dict[Outcome, int] = {}
        self.compared: set[int] = set()  # numbers of complete trials
        self.front: list[tuple[float, ...]] = []  # losses of the best of them, none of which another one beats
        self.slots = [Slot(device) for device in slots]
        self.pace = Pace(len(slots), clock)
        self.end = math.inf if timeout is None else clock() + timeout  # when no trial starts any more
        self.lock = threading.Lock()  # guards all of the above
        self.looked(trials)
        self.bars = Bars() if sys.stderr.isatty() else None
        logging.captureWarnings(self.bars is not None)  # else they are written over the bars
        self.closed = threading.Event()
        wait = interval or (HEARTBEAT if self.bars is None else REFRESH)
        self.drawer = threading.Thread(target=self._keep_drawing, args=(wait,), name="screen", daemon=True)
        self.drawer.start()

    def started(self, slot: int, numbers: Sequence[int], epochs: int) -> None:
        """``slot`` trains the trials ``numbers`` from now on, for ``epochs`` each."""
        with self.lock:
            self.slots[slot] = Slot(self.slots[slot].device, numbers=list(numbers), epochs=epochs)
            self.pace.started(slot, len(numbers))

    def evaluated(self, slot: int, number: int, epoch: int, metrics: Mapping[str, float]) -> None:
        """Trial ``number`` in ``slot`` has got as far as ``epoch``."""
        with self.lock:
            shown = self.slots[slot]
            if shown.numbers[0] == number:
                shown.epoch, shown.metrics = epoch, metrics
            self.pace.advanced(slot, epoch / shown.epochs)

    def finished(self, slot: int, number: int, verdict: Verdict) -> None:
        """Trial ``number`` in ``slot`` has ended, which those that were looked at last include."""
        with self.lock:
            self._free(slot, number, verdict.outcome in VALID)
            line = self._finished_line(number, verdict, self.slots[slot].device)
        if self.bars is None:
            emit(line)
        else:
            log.info(line)

    def dropped(self, slot: int, number: int) -> None:
        """Trial ``number`` in ``slot`` has ended, and counts as another coordinator had closed it before."""
        with self.lock:
            self._free(slot, number, False)
        self.note(f"trial {number} had been closed by another coordinator; its result is dropped")

    def looked(self, trials: Sequence[FrozenTrial], elsewhere: int | None = None) -> None:
        """What the storage has: trials of all coordinators; and how many slots the others have, where that is known."""
        with self.lock:
            ended = counts(trials)
            if sum(ended.values()) >= sum(self.ended.values()):  # else another thread looked later
                self.ended = ended
            for trial in trials:
                if outcome_of(trial) is Outcome.COMPLETE and trial.number not in self.compared:
                    self.compared.add(trial.number)
                    self._compare(trial.values)
            if elsewhere is not None:
                self.pace.elsewhere = elsewhere

    def lost(self, slot: int) -> None:
        """``slot`` is given up."""
        with self.lock:
            self.slots[slot] = Slot(self.slots[slot].device, "given up")
            self.pace.lost(slot)

    def note(self, text: str) -> None:
        """Something else that the user should know."""
        emit(text)

    def close(self) -> None:
        """End the drawing; the study's bar stays on the screen as it is last."""
        self.closed.set()
        self.drawer.join()
        if self.bars is not None:
            with self.lock:
                self.bars.draw(list(self._lines()))
            self.bars.close()
            self.bars = None
            logging.captureWarnings(False)

    @property
    def valid(self) -> int:
        """Valid trials so far."""
        return sum(self.ended.get(outcome, 0) for outcome in VALID)

    def heartbeat(self) -> str:
        """The study in one line, with the trials that run."""
        with self.lock:
            parts = [f"{self.valid}/{self.target} valid, {self._summary()}"]
            for slot in self.slots:
                if slot.numbers:
                    parts.append(f"{slot.progress()} {self._value(slot)}")
            return "; ".join(" ".join(part.split()) for part in parts)

    def _free(self, slot: int, number: int, valid: bool) -> None:
        shown = self.slots[slot]
        shown.numbers = [other for other in shown.numbers if other != number]
        if not shown.numbers:
            self.slots[slot] = Slot(shown.device, "waiting")
        self.pace.finished(slot, valid)

    def _keep_drawing(self, interval: float) -> None:
        while not self.closed.wait(interval):
            if self.bars is None:
                emit(self.heartbeat())
                continue
            with self.lock:
                lines = list(self._lines())
            self.bars.draw(lines)

    def _lines(self) -> Iterator[Line]:
        yield Line(f"valid trials {self.valid}/{self.target}", self._summary(), self.valid, self.target)
        yield Line("  " + ", ".join(f"{self.ended[way]} {way.value}" for way in Outcome if self.ended.get(way)))
        shown = room(len(self.slots))
        width = max(len(slot.device) for slot in self.slots)
        for slot in self.slots[:shown]:
            left = f"  {slot.device:{width}s} {slot.progress()}"
            yield Line(left, self._value(slot), slot.epoch, slot.epochs)
        rest = self.slots[shown:]
        if rest:
            busy = sum(bool(slot.numbers) for slot in rest)
            yield Line(f"  and {len(rest)} more slots, {busy} of them training")

    def _summary(self) -> str:
        """When the study will be finished, and the best value or the size of the front."""
        bound = "" if self.pace.valid else "<"  # before that, from the running trials, if all of them go to their end
        left = self.pace.seconds_left(self.target - self.valid)
        text = "ETA ?" if left is None else f"ETA {bound}{as_time(left)}"
        until_end = max(0.0, self.end - self.pace.clock())
        if until_end < (math.inf if left is None else left):
            text += f", timeout in {as_time(until_end)}"
        if not self.front:
            return text
        if self.objective.is_single:
            name = self.objective.metrics[0]
            return f"{text}, best {name} {with_unit(name, self.objective.losses(self.front[0])[0])}"
        return f"{text}, {len(self.front)} on the Pareto front"

    def _value(self, slot: Slot) -> str:
        """The first objective, where a running trial tells it."""
        name = self.objective.metrics[0]
        return f"{name} {with_unit(name, slot.metrics[name])}" if name in slot.metrics else ""

    def _finished_line(self, number: int, verdict: Verdict, device: str) -> str:
        what = verdict.reason
        if verdict.outcome is Outcome.COMPLETE:
            what = ", ".join(f"{name} = {with_unit(name, verdict.metrics[name])}" for name in self.objective.metrics)
        ended = f"trial {number:<4d} {verdict.outcome.value:13s} {verdict.duration:7.1f} s  {device:6s}"
        return f"{ended}  {self.valid}/{self.target} valid  {what}"

    def _compare(self, values: Sequence[float]) -> None:
        """Put ``values`` on the front unless a trial there is better, and take from it what is worse."""
        losses = self.objective.losses(values)
        if not any(dominates(known, losses) for known in self.front):
            self.front = [*(known for known in self.front if not dominates(losses, known)), losses]
