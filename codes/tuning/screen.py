"""What a user sees while a study runs."""

import logging
import sys
import threading
import time
from collections.abc import Mapping, Sequence

from optuna.trial import FrozenTrial, TrialState
from tqdm import tqdm

from codes.tuning.ledger import counts
from codes.tuning.objective import Objective
from codes.tuning.outcomes import VALID, Outcome, Verdict

log = logging.getLogger(__name__)
REFRESH = 0.2  # seconds between two drawings of the bar while trials run


def emit(text: str = "") -> None:
    """Print ``text``, above any bar, and keep it in the log file."""
    tqdm.write(text)
    sys.stdout.flush()
    for line in text.splitlines():
        log.info(line)


class Screen:
    """Progress of one study: a bar on a terminal, else a line per finished trial. Any thread may call it."""

    def __init__(self, objective: Objective, target: int, trials: Sequence[FrozenTrial], slots: Sequence[str]) -> None:
        self.slots = slots
        self.objective = objective
        self.target = target
        self.ended = counts(trials)
        self.best: float | None = None
        for trial in trials:
            if trial.state is TrialState.COMPLETE:
                self._compare(trial.values[0])
        self.running: dict[int, int] = {}  # epoch of each running trial
        self.shown = 0.0  # when the bar was last drawn
        self.lock = threading.Lock()
        self.bar = tqdm(
            total=target, initial=self.valid, unit="trial", desc="valid trials", disable=not sys.stderr.isatty()
        )

    @property
    def valid(self) -> int:
        """Valid trials so far."""
        return sum(self.ended.get(outcome, 0) for outcome in VALID)

    def started(self, slot: int, number: int) -> None:
        """``slot`` trains trial ``number`` from now on."""

    def counted(self, ended: Mapping[Outcome, int]) -> None:
        """How many trials of the whole study have ended in each way, those of other coordinators too."""
        with self.lock:
            self.ended = dict(ended)

    def lost(self, slot: int) -> None:
        """``slot`` is given up."""

    def evaluated(self, slot: int, number: int, epoch: int, metrics: Mapping[str, float]) -> None:
        """A running trial has got as far as ``epoch``."""
        with self.lock:
            self.running[number] = epoch
            if not self.bar.disable and time.monotonic() - self.shown > REFRESH:
                self._draw()

    def finished(self, slot: int, number: int, verdict: Verdict) -> None:
        """A trial has ended."""
        with self.lock:
            self.running.pop(number, None)
            self.ended[verdict.outcome] = self.ended.get(verdict.outcome, 0) + 1
            if verdict.outcome is Outcome.COMPLETE:
                self._compare(verdict.metrics[self.objective.metrics[0]])
            line = self._line(number, verdict, self.slots[slot])
            if self.bar.disable:
                emit(line)
            else:
                log.info(line)
                self._draw()

    def note(self, text: str) -> None:
        """Something else that the user should know."""
        with self.lock:
            emit(text)

    def close(self) -> None:
        """End the bar; it stays on the screen."""
        self.bar.close()

    def _line(self, number: int, verdict: Verdict, device: str) -> str:
        what = verdict.reason
        if verdict.outcome is Outcome.COMPLETE:
            what = ", ".join(f"{name} = {verdict.metrics[name]:.4g}" for name in self.objective.metrics)
        ended = f"trial {number:<4d} {verdict.outcome.value:13s} {verdict.duration:7.1f} s  {device:6s}"
        return f"{ended}  {self.valid}/{self.target} valid  {what}"

    def _draw(self) -> None:
        parts = [f"{number} {outcome.value}" for outcome, number in self.ended.items()]
        if self.best is not None:
            parts.append(f"best {self.objective.metrics[0]} {self.best:.4g}")
        parts += [f"#{number} {epoch / self.objective.epochs:.0%}" for number, epoch in sorted(self.running.items())]
        self.bar.set_postfix_str(", ".join(parts), refresh=False)
        self.bar.update(self.valid - self.bar.n)
        self.bar.refresh()
        self.shown = time.monotonic()

    def _compare(self, value: float) -> None:
        better = min if self.objective.directions[0] == "minimize" else max
        self.best = value if self.best is None else better(self.best, value)
