"""One thread per slot, which takes trials from the ledger, has its worker run them, and settles how they ended."""

import math
import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import optuna

from codes.errors import UserError
from codes.files import write_atomically
from codes.signals import INTERRUPTED
from codes.tuning.ledger import Ledger
from codes.tuning.members import Member, Members
from codes.tuning.models import prune_models
from codes.tuning.outcomes import VALID, Outcome, Verdict
from codes.tuning.plan import Plan
from codes.tuning.presence import BEAT
from codes.tuning.screen import Screen
from codes.tuning.slots import OnProgress, StartError, StartKilled, Worker, block_interrupts, start_resource_tracker
from codes.tuning.time_pruning import TimePruning
from codes.tuning.worker import Progress, Settings

FIRST_INVALID = 10  # invalid trials in a row, before any valid one, that stop a launch
STARTS = 3  # workers of a slot, one after another, that may be killed before they are ready
POLL = 1.0  # seconds between two looks at trials of other coordinators, while they fill the budget
NO_FAULT = VALID | {Outcome.INTERRUPTED, Outcome.TIME_PRUNED}  # of these nothing is wrong with the study


class Coordinator:
    """Runs the trials that a study lacks. It alone touches the database; its workers train."""

    def __init__(self, ledger: Ledger, plan: Plan, slots: Sequence[Settings], screen: Screen) -> None:
        self.ledger, self.plan, self.slots, self.screen = ledger, plan, slots, screen
        self.time_pruning = TimePruning(ledger) if plan.config.time_pruning else None
        self.ended, self.tending_due = threading.Event(), threading.Event()
        # Guards what follows; notified when a trial has ended. Nobody waits for the storage while holding it: Ctrl-C
        # needs it.
        self.change = threading.Condition()
        self.members = Members(ledger, plan, self.time_pruning, screen.note)
        self.workers: set[Worker] = set()
        self.stopping: str | None = None  # why
        self.end = math.inf  # when no trial starts any more
        self.failure: Exception | None = None
        self.any_valid = False
        self.settled = 0
        self.invalid: list[tuple[int, Verdict]] = []  # of this launch
        self.serving = len(slots)
        self.lost = 0  # slots whose workers do not start

    def run(self) -> None:
        """Return when the ledger is full or, after the study's ``timeout``, when the running trials have ended.

        Raises ``KeyboardInterrupt`` after Ctrl-C, or what else came from outside, when the running trials are settled
        as interrupted; ``UserError`` when too many trials are invalid or no slot is left; and whatever else ended a
        slot's thread.
        """
        start_resource_tracker()
        if self.plan.config.timeout is not None:
            self.end = time.monotonic() + self.plan.config.timeout
        beside = [threading.Thread(target=work, daemon=True) for work in (self._beat, self._tend)]
        slots = [threading.Thread(target=self._serve, args=(slot,), daemon=True) for slot in self.slots]
        try:
            for thread in (*beside, *slots):
                thread.start()
            self._wait()
        except BaseException:  # Ctrl-C, or whatever a launcher's handler of a signal raises
            with self.change:
                self.serving -= sum(thread.ident is None for thread in slots)  # stopped before they were started
            self._end_interrupted()
            raise
        finally:
            self.ended.set()
            self.tending_due.set()
            for thread in beside:
                if thread.ident is not None:
                    thread.join()
        if self.failure is not None:
            raise self.failure

    def _wait(self) -> None:
        """Until no slot is served. Not by joining threads: an interrupted join takes its thread for ended."""
        with self.change:
            self.change.wait_for(lambda: self.serving == 0)

    def _end_interrupted(self) -> None:
        """Settle the running trials; at a second Ctrl-C end this process where it stands."""
        try:
            self.screen.note("stopping: running trials end as interrupted (Ctrl-C again ends at once)")
            self._stop("stopped by the user")
            self._wait()
        except KeyboardInterrupt:
            for worker in list(self.workers):
                worker.kill()
            os._exit(INTERRUPTED)

    def _beat(self) -> None:
        """Say that this coordinator lives. It waits for nobody's claim: one that does looks dead to the others."""
        block_interrupts()
        try:
            while not self.ended.wait(BEAT):
                self.ledger.presence.beat()
        except Exception as error:  # of any kind: raised again in the main thread
            self._fail(error)

    def _tend(self) -> None:
        """Beside the slots, which need not wait for it: look after the models and the other coordinators."""
        block_interrupts()
        due, ended = time.monotonic() + BEAT, False
        try:
            while not ended:
                self.tending_due.wait(max(0.0, due - time.monotonic()))
                self.tending_due.clear()
                ended = self.ended.is_set()
                prune_models(self.ledger, self.plan)
                if time.monotonic() >= due:
                    due = time.monotonic() + BEAT
                    self._close_dead()
                    others = self.ledger.presence.told().values()
                    self.screen.looked(self.ledger.trials(), sum(entry.get("slots", 0) for entry in others))
        except Exception as error:  # of any kind: raised again in the main thread
            self._fail(error)

    def _close_dead(self) -> None:
        crashed = self.ledger.close_dead()
        if crashed:
            self.screen.note(f"another coordinator died; {crashed} trials of it are closed as crashed")

    def _serve(self, slot: Settings) -> None:
        """Life of a slot: one worker after another, until the study is full or stops."""
        block_interrupts()
        killed = 0  # workers since the last one that was ready
        try:
            while not self._is_over() and not self.ledger.is_full():
                with self._worker(slot) as worker:
                    try:
                        worker.wait_until_ready()
                    except StartKilled:
                        killed += 1
                        if killed == STARTS:
                            raise
                        continue
                    killed = 0
                    self._train(slot, worker)
        except StartError as error:
            self._give_up(slot, error)
        except Exception as error:  # of any kind: raised again in the main thread
            self._fail(error)
        finally:
            with self.change:
                self.serving -= 1
                self.change.notify_all()

    @contextmanager
    def _worker(self, slot: Settings) -> Iterator[Worker]:
        worker = Worker(slot)
        with self.change:
            self.workers.add(worker)
            if self.stopping is not None:
                worker.kill()
        try:
            yield worker
        finally:
            with self.change:
                self.workers.discard(worker)
            worker.close()

    def _train(self, slot: Settings, worker: Worker) -> None:
        """Trials in one worker, until there is nothing to do or the worker cannot go on."""
        index = self.slots.index(slot)
        broken = False
        while not broken and worker.is_alive() and (group := self._group(worker)):
            epochs = group[0].watch.objective.epochs
            self.screen.started(index, [member.trial.number for member in group], epochs)
            jobs = [member.job for member in group]
            self.tending_due.set()  # not before: the next trial goes first
            longest = partial(self._longest, group)
            for place, verdict in worker.run(jobs, self._shown(group, index), self.screen.note, longest):
                if verdict.outcome is Outcome.CRASHED and self.stopping is not None:
                    verdict = replace(verdict, outcome=Outcome.INTERRUPTED, reason=self.stopping)
                verdict = group[place].watch.complete(self.plan.objective.check(verdict))
                self._settle(group[place].trial, verdict, index, is_new=not (broken and verdict.broken))
                self._renew_time_limit(worker, verdict)
                broken |= verdict.broken

    def _group(self, worker: Worker) -> list[Member]:
        """The next trial, and those that train with it; none where there is nothing to do."""
        first = self._next(worker)
        return [] if first is None else self.members.with_companions(first, worker)

    def _next(self, worker: Worker) -> Member | None:
        """A trial to run; waits while the running ones fill the budget, for one of them may turn out invalid."""
        while not self._is_over():
            settled = self.settled
            member = self.members.claim(worker)
            if member is not None or self.ledger.is_full():
                return member
            with self.change:
                news = self.change.wait_for(partial(self._has_news, settled), POLL)
            if not news:  # none of ours has ended; others may have died
                self._close_dead()
        return None

    def _is_over(self) -> bool:
        """Whether no trial is to start any more."""
        return self.stopping is not None or time.monotonic() >= self.end

    def _has_news(self, settled: int) -> bool:
        """Whether a trial has ended since ``settled`` of them had, or all are to."""
        return self.settled != settled or self.stopping is not None

    @staticmethod
    def _longest(group: Sequence[Member]) -> float:
        """Seconds of training that all epochs of ``group`` may take; infinite as long as there is no limit."""
        limit = group[0].watch.limit(len(group))
        return math.inf if limit is None else len(group) * limit

    def _shown(self, group: Sequence[Member], slot: int) -> OnProgress:
        def on_progress(seen: Progress) -> str | None:
            watch = group[seen.member].watch
            self.screen.evaluated(slot, watch.trial.number, seen.epoch, seen.metrics)
            return watch(seen.epoch, seen.metrics, seen.together)

        return on_progress

    def _renew_time_limit(self, worker: Worker, verdict: Verdict) -> None:
        """Where there is a limit, only a trial that it stopped can change it."""
        stopped = verdict.outcome is Outcome.TIME_PRUNED
        kind = worker.hardware, verdict.together
        if self.time_pruning is None or (self.time_pruning.limit(*kind) is not None and not stopped):
            return
        news = self.time_pruning.renew(*kind)
        if news is not None:
            self.screen.note(news)

    def _settle(self, trial: optuna.Trial, verdict: Verdict, slot: int, is_new: bool) -> None:
        """Close ``trial``; stop where too many are invalid. Of those that its worker took with it one ``is_new``."""
        kept = replace(verdict, traceback=self._write_traceback(trial.number, verdict.traceback))
        if not self.ledger.settle(trial, kept, self.plan.objective.told(verdict, self.plan.config.loss_cap)):
            self.screen.dropped(slot, trial.number)
            with self.change:
                self.settled += 1
                self.change.notify_all()
            return
        self.screen.looked(self.ledger.trials())
        self.screen.finished(slot, trial.number, verdict)
        with self.change:
            self.settled += 1
            self.any_valid |= verdict.outcome in VALID
            if verdict.outcome in VALID:
                self.invalid.clear()
            elif verdict.outcome not in NO_FAULT and is_new:
                self.invalid.append((trial.number, verdict))
            cause = self._cause_to_stop(verdict)
            self.change.notify_all()
        if cause is not None:
            self._fail(UserError(cause))

    def _cause_to_stop(self, verdict: Verdict) -> str | None:
        number = len(self.invalid)
        at_the_start = number >= FIRST_INVALID and not self.any_valid
        if not (verdict.fatal or at_the_start or number > self.plan.config.max_invalid):
            return None
        first, cause = self.invalid[-1 if verdict.fatal else 0]
        told = f"trial {first} {cause.outcome.value}: {cause.reason}"
        if verdict.fatal:  # whose reason says all
            return f"the study stops; {told}"
        return f"the study stops after {number} invalid trials in a row; {told}\n{cause.traceback}".rstrip()

    def _write_traceback(self, number: int, text: str) -> str:
        path = self.plan.folder / "tracebacks" / f"trial_{number}.txt"
        return str(write_atomically(path, text)) if text else ""

    def _give_up(self, slot: Settings, error: StartError) -> None:
        """Go on without ``slot``; without any slot there is no study."""
        if self.stopping is not None:
            return
        self.screen.lost(self.slots.index(slot))
        self.screen.note(f"the slot on {slot.device} is given up, its worker does not start: {error}")
        with self.change:
            self.lost += 1
            if self.lost == len(self.slots):
                self.failure = UserError("no slot is left; see the causes above")

    def _fail(self, error: Exception) -> None:
        with self.change:
            self.failure = self.failure or error
        self._stop("the study stopped")

    def _stop(self, why: str) -> None:
        with self.change:
            self.stopping = self.stopping or why
            for worker in self.workers:
                worker.kill()
            self.change.notify_all()
