"""Which trials a slot runs together: the first as the sampler proposes it, and those that can be one stack with it."""

import logging
import math
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import optuna
from omegaconf import OmegaConf
from optuna.exceptions import UpdateFinishedTrialError

from codes.limits import seed_after
from codes.tuning.ledger import Ledger
from codes.tuning.plan import Plan
from codes.tuning.population import PAYS
from codes.tuning.slots import Worker
from codes.tuning.time_pruning import TimePruning
from codes.tuning.watch import Watch
from codes.tuning.worker import Job

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Member:
    """A trial that runs, alone or with others."""

    trial: optuna.Trial
    job: Job
    watch: Watch


class Members:
    """Claims trials for the slots of one coordinator; ``note`` tells the user something."""

    def __init__(self, ledger: Ledger, plan: Plan, pruning: TimePruning | None, note: Callable[[str], None]) -> None:
        self.ledger, self.plan, self.pruning, self.note = ledger, plan, pruning, note
        self.lock = threading.Lock()  # of the slots' threads: samplers are not made for them
        self.told_alone = False  # that trials cannot train together

    def claim(self, worker: Worker, held: Mapping[str, Any] | None = None) -> Member | None:
        """A trial for ``worker``, with ``held`` one that has these values; None where there is none to be had now.

        None also where another coordinator took this one for dead, and closed the trial before it was complete.
        """
        slot, config = worker.settings, self.plan.config
        kinds = (slot.threads, config.trainer.gradients)
        try:
            with self.lock:
                trial = self.ledger.claim(slot.device, worker.hardware, config.seed, held, *kinds)
                return None if trial is None else self._member(trial, worker)
        except UpdateFinishedTrialError:
            self.note("another coordinator closed a trial of this one before it began; the next one is asked for")
            return None

    def with_companions(self, first: Member, worker: Worker) -> list[Member]:
        """``first``, and those that train with it."""
        group = [first]
        held = {name: value for name, value in first.trial.params.items() if name in self.plan.population.held}
        for _ in range(self._companions(first.job, worker)):
            companion = self.claim(worker, held)
            if companion is None:
                break
            group.append(companion)
        return group

    def _companions(self, job: Job, worker: Worker) -> int:
        """How many trials are to train with that of ``job``; slots have an even share of what is left."""
        population = self.plan.population
        if population.most == 1:
            return 0
        most = min(population.most, math.ceil((self.ledger.left() + 1) / len(self.plan.devices)))
        return most - 1 if most > 1 and (not population.auto or self._pays(job, most, worker)) else 0

    def _pays(self, job: Job, trials: int, worker: Worker) -> bool:
        measured = worker.speed_up(job, trials)
        log.info("%d trials like that of %s are %.2f times as fast together", trials, job.folder, measured.factor)
        if measured.reason and not self.told_alone:
            self.told_alone = True
            self.note(f"trials train one by one: {measured.reason}")
        return measured.factor >= PAYS

    def _member(self, trial: optuna.Trial, worker: Worker) -> Member:
        config = self.plan.space.sample(trial, self.plan.config)
        OmegaConf.update(config, "seed", seed_after(self.plan.config.seed, trial.number))
        job = Job(config, self.plan.folder / "models" / str(trial.number))
        objective = replace(self.plan.objective, epochs=config.trainer.epochs)  # which may be tuned
        return Member(trial, job, Watch(trial, objective, lambda together: self._limit(worker, together)))

    def _limit(self, worker: Worker, together: int) -> float | None:
        return self.pruning.limit(worker.hardware, together) if self.pruning else None
