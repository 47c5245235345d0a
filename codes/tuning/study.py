"""One study from its config to its table: the entry point of tuning."""

import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import Any

import optuna
from omegaconf import DictConfig
from tqdm import tqdm

from codes import storage
from codes.errors import UserError
from codes.signals import like_ctrl_c
from codes.tuning.coordinator import Coordinator
from codes.tuning.fidelity import settle_config
from codes.tuning.ledger import Ledger
from codes.tuning.pace import as_time
from codes.tuning.plan import Plan, plan_study
from codes.tuning.screen import Screen, emit
from codes.tuning.slots import threads_per_slot
from codes.tuning.summary import as_settled, closing, next_commands, opening, resume_command, study_row, write_trials
from codes.tuning.warm_start import enqueue_known
from codes.tuning.worker import Settings


def run_study(
    config: DictConfig,
    runner: str,
    *,
    prepare: Callable[[DictConfig], str | None] | None = None,
    warm_up: str | None = None,
    together: str | None = None,
    speed_up: str | None = None,
    overrides: Sequence[str] = (),
    origins: Mapping[str, str] = MappingProxyType({}),
    known: Mapping[str, DictConfig] = MappingProxyType({}),
    report: Callable[[DictConfig, storage.Database], str] | None = None,
) -> dict[str, str]:
    """Run the study that ``config`` describes until it has ``config.trials`` valid trials; its row in a table.

    Args:
        config: Composed ``TuneConfig``, interpolations unresolved.
        runner: Reference ``module:function`` to ``(config, report, folder) -> metrics``, called in the workers.
        prepare: Called once in this process with the checked config, before the database is opened: makes the data,
            and writes into the config what only the data says. Returns the errors that a trial must beat, to be shown.
        warm_up: Reference to a function that each worker calls once, without arguments, before its first trial.
        together: Reference to ``(configs, report, folders) -> iterator of (number, metrics or exception)``, which runs
            several trials as one stack and says of each when it has ended; ``report`` has that number first.
        speed_up: Reference to ``(config, trials) -> factor``, which measures what that gains, for slot.population=auto.
        overrides: What the user typed, for the commands that are suggested at the end.
        origins: Where the range of each parameter comes from, as ``codes.tuning.origins`` finds it, for the screen.
        known: Composed configurations, by what they are called, whose tuned parameters are tried first.
        report: Called with the study's config and the open storage at the end; returns a line to show.

    Raises:
        UserError: bad input, or too many invalid trials.
        KeyboardInterrupt: after Ctrl-C, SIGTERM or SIGHUP, with the running trials settled as interrupted.
    """
    tqdm.set_lock(threading.RLock())  # tqdm's own is a semaphore, which a killed process leaves to others

    def replan(config: DictConfig) -> Plan:
        plan = plan_study(config)
        if together is None and plan.population.most > 1 and not plan.population.auto:
            raise UserError("slot.population: must be 1, this study's trainer trains one at a time")
        return plan if prepare is None else replace(plan, to_beat=prepare(config) or "")

    plan = replan(config)
    settings = storage.settings(config)
    plan.folder.mkdir(parents=True, exist_ok=True)
    with (
        like_ctrl_c(),
        storage.opened(settings) as database,
        _present(plan, database, overrides, replan) as (plan, ledger),
    ):
        overrides = as_settled(overrides, config, plan.config)
        if ledger.is_full():
            emit(f"study {plan.name} is finished, it has {ledger.valid()} valid trials of {ledger.target}")
        else:
            workers = _workers(plan, runner=runner, warm_up=warm_up, together=together, speed_up=speed_up)
            emit(opening(plan, workers[0].threads, database.address, origins))
            ledger.study.sampler = plan.sampler(ledger.presence.launch)
            _warm_start(ledger, plan, known)
            _run(ledger, plan, workers, overrides)
        emit(closing(ledger, plan))
        if settings.backend != "memory":  # of which nothing is left to go on with
            emit(next_commands(ledger, plan, overrides))
        if report is not None:  # also of a study that a kill kept from it, or that has fewer trials by now
            emit(report(plan.config, database))
        return study_row(ledger, plan)


def _workers(plan: Plan, **references: Any) -> list[Settings]:
    threads = plan.config.trainer.threads or threads_per_slot(len(plan.devices))
    logs = [plan.folder / f"slot_{index}.log" for index in range(len(plan.devices))]
    pairs = zip(plan.devices, logs, strict=True)
    deadline = plan.config.deadline
    return [Settings(device, threads, log=log, deadline=deadline, **references) for device, log in pairs]


@contextmanager
def _present(
    plan: Plan, database: storage.Database, overrides: Sequence[str], replan: Callable[[DictConfig], Plan]
) -> Iterator[tuple[Plan, Ledger]]:
    """The study's ledger, with this coordinator entered in it for as long as it lasts, and the plan to go on with."""
    optuna.logging.disable_default_handler()
    optuna.logging.enable_propagation()  # to the job's log file, not over the bars
    plan, presence = settle_config(plan, database, overrides, replan)
    presence.about = {"target": plan.config.trials, "slots": len(plan.devices)}
    presence.beat()
    ledger = Ledger(presence.study, plan.config.trials, presence, partial(database.claiming, plan.name))
    try:
        others = presence.others()
        if others:
            emit(f"the study is run by others too, which share its trials: {', '.join(others)}")
        crashed = ledger.close_dead()
        if crashed:
            emit(f"{crashed} trials were running when their coordinator died; they are closed as crashed and replaced")
        yield plan, ledger
    finally:
        presence.leave()


def _warm_start(ledger: Ledger, plan: Plan, known: Mapping[str, DictConfig]) -> None:
    """Queue the ``known`` configurations, once, at the very start of a study."""
    with ledger.claiming():
        if not ledger.trials():
            for line in enqueue_known(ledger.study, plan.space, plan.config, known):
                emit(line)


def _run(ledger: Ledger, plan: Plan, workers: Sequence[Settings], overrides: Sequence[str]) -> None:
    screen = Screen(plan.objective, ledger.target, ledger.trials(), plan.devices, timeout=plan.config.timeout)
    try:
        Coordinator(ledger, plan, workers, screen).run()
        screen.looked(ledger.trials())
        if not ledger.is_full():
            after = as_time(plan.config.timeout)
            screen.note(f"timeout: no trial starts after {after}; {ledger.valid()} of {ledger.target} are valid")
    except KeyboardInterrupt:
        screen.note(f"\nstopped with {ledger.valid()} of {ledger.target} valid trials; go on with")
        screen.note(resume_command(overrides))
        raise
    finally:
        ending = sys.exc_info()[1]
        screen.close()
        try:
            write_trials(plan.folder / "trials.csv", ledger.trials(), plan.objective)
        except OSError as error:
            if ending is None:
                raise
            emit(f"trials.csv is not up to date: {error}")  # what has ended the study is told, not this
