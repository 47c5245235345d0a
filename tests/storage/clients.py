"""What other processes do to a storage; run in processes that are forked from one with everything imported."""

import multiprocessing
import os
import signal
import threading

import optuna

from codes.storage import opened

processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(["optuna", "codes.storage", "tests.storage.clients"])


def ended(*workers):
    """Wait for ``workers``, and for each to have ended well."""
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0


def started(target, *arguments):
    worker = processes.Process(target=target, args=arguments)
    worker.start()
    return worker


def create_and_count(config, barrier, rounds):
    """Create the study at the same instant as others, then count in it under its lock."""
    barrier.wait(60)
    with opened(config) as database:
        study = optuna.create_study(study_name="s", storage=database.storage, load_if_exists=True)
        threads = [threading.Thread(target=count, args=(study, database, rounds)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def count(study, database, rounds):
    for _ in range(rounds):
        with database.claiming("s"):
            study.set_user_attr("count", study.user_attrs.get("count", 0) + 1)


def hold(config, held):
    """Claim the study and keep it until killed."""
    with opened(config) as database, database.claiming("s"):
        held.set()
        threading.Event().wait()


def write_and_die(config):
    """Write a trial that does not end, and be killed."""
    with opened(config) as database:
        trial = optuna.create_study(study_name="s", storage=database.storage).ask()
        trial.suggest_float("x", 0, 1)
        trial.set_user_attr("claim", "here")
        for step in range(20):
            trial.report(0.5, step)
        os.kill(os.getpid(), signal.SIGKILL)


def use(config, ready, finish):
    """Have the storage open until told to finish."""
    with opened(config) as database:
        optuna.create_study(study_name="s", storage=database.storage, load_if_exists=True)
        ready.set()
        finish.wait(60)


def read(config, queue):
    """What a process that comes later sees of each trial."""
    with opened(config) as database:
        trials = optuna.load_study(study_name="s", storage=database.storage).trials
        queue.put([(t.state.name, t.params, t.values, repr(t.intermediate_values), t.user_attrs) for t in trials])
