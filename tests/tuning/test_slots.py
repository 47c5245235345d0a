"""One worker process and what can happen to it."""

import os
import re
import signal
from pathlib import Path

import pytest

from codes.errors import UserError
from codes.tuning.outcomes import Outcome
from codes.tuning.slots import StartError, Worker, resolve_devices, threads_per_slot
from codes.tuning.worker import Job, Settings
from tests.tuning.studies import RUNNERS, composed, hold, is_gone, until


@pytest.fixture
def worker_for(tmp_path):
    """Start workers with a runner; none outlives the test."""
    workers = []

    def start(runner, warm_up=None, deadline=600.0):
        settings = Settings("cpu", 1, RUNNERS + runner, warm_up, tmp_path / "slot.log", deadline)
        workers.append(Worker(settings))
        return workers[-1]

    yield start
    for worker in workers:
        worker.close()


@pytest.fixture
def job(tmp_path):
    return Job(composed(tmp_path, "surrogate.learning_rate=1e-3"), tmp_path / "models" / "0")


def go_on(progress):
    return None


def run(worker, job, on_progress):
    """The verdict of a single trial."""
    ((_, verdict),) = worker.run([job], on_progress)
    return verdict


def test_a_worker_trains_again_and_again_in_its_slot(worker_for, job):
    worker = worker_for("quadratic")
    worker.wait_until_ready()
    seen = []
    verdict = run(worker, job, lambda progress: seen.append((progress.epoch, set(progress.metrics))))
    assert verdict.outcome is Outcome.COMPLETE and verdict.metrics["lae99"] == 1.0
    assert seen == [(epoch, {"lae99", "mlae"}) for epoch in range(10, 101, 10)]
    device, threads, pid = (job.folder / "device").read_text().split()
    assert (device, threads, int(pid)) == ("cpu", "1", worker.process.pid)
    assert run(worker, job, lambda progress: "worse than the others").outcome is Outcome.PRUNED


def test_out_of_memory_is_recognised(worker_for, job):
    worker = worker_for("out_of_gpu_memory")
    worker.wait_until_ready()
    verdict = run(worker, job, go_on)
    assert verdict.outcome is Outcome.OUT_OF_MEMORY and "2.00 GiB" in verdict.reason


def test_the_end_of_the_pipe_is_the_end_of_the_worker(worker_for):
    worker = worker_for("quadratic")
    worker.wait_until_ready()
    worker.connection.close()
    worker.process.join(30)
    assert worker.process.exitcode == 0


def test_ctrl_c_is_left_to_the_coordinator(worker_for, job):
    worker = worker_for("quadratic")
    worker.wait_until_ready()
    os.kill(worker.process.pid, signal.SIGINT)
    assert run(worker, job, go_on).outcome is Outcome.COMPLETE


def test_a_stopped_worker_is_closed_without_a_zombie(worker_for):
    worker = worker_for("quadratic")
    worker.wait_until_ready()
    pid = worker.process.pid
    os.kill(pid, signal.SIGKILL)
    until(lambda: is_gone(pid))
    worker.process.join()
    assert not Path(f"/proc/{pid}").exists()


@pytest.mark.parametrize(("number", "name"), [(signal.SIGKILL, "SIGKILL .out of memory"), (40, "signal 40, see")])
def test_what_has_killed_a_worker_is_told(worker_for, job, tmp_path, number, name):
    hold(tmp_path)
    worker = worker_for("held")
    worker.wait_until_ready()
    verdict = run(worker, job, lambda progress: os.kill(worker.process.pid, number))
    assert verdict.outcome is Outcome.CRASHED and re.search(f"killed by {name}", verdict.reason)


def test_a_worker_that_is_stopped_in_a_trial_is_ended_after_its_deadline(worker_for, job, tmp_path):
    hold(tmp_path)
    worker = worker_for("held", deadline=1.0)
    worker.wait_until_ready()
    verdict = run(worker, job, lambda progress: os.kill(worker.process.pid, signal.SIGSTOP))
    assert verdict.outcome is Outcome.CRASHED
    assert "no sign of life for 1 s" in verdict.reason and not worker.is_alive()


def test_a_long_epoch_is_no_silence(worker_for, job):
    worker = worker_for("slow", deadline=0.4)
    worker.wait_until_ready()
    assert run(worker, job, go_on).outcome is Outcome.COMPLETE


def test_what_a_worker_cannot_import_is_told(worker_for):
    with pytest.raises(StartError, match="nothing_like_this"):
        worker_for("nothing_like_this").wait_until_ready()


def test_printing_goes_to_the_slots_log(worker_for, job, tmp_path, capfd):
    worker = worker_for("in_turn")
    worker.wait_until_ready()
    job.config.seed = 50
    assert run(worker, job, go_on).outcome is Outcome.CRASHED
    assert capfd.readouterr() == ("", "")


def test_devices():
    assert resolve_devices(["cpu", "cpu"]) == ("cpu", "cpu")
    assert resolve_devices(["auto"])
    with pytest.raises(UserError, match="choose from auto, cores, cpu"):
        resolve_devices(["gpu"])
    for wrong in ([], ["gpu"], ["cpu", "cuda:99"]):
        with pytest.raises(UserError, match=wrong[-1] if wrong else "devices"):
            resolve_devices(wrong)


def test_a_slot_for_each_core_that_this_process_may_use():
    whole = os.sched_getaffinity(0)
    assert resolve_devices(["cores"]) == ("cpu",) * len(whole)
    os.sched_setaffinity(0, {min(whole)})  # as a batch system does
    try:
        assert resolve_devices(["cores", "cpu"]) == ("cpu", "cpu")
    finally:
        os.sched_setaffinity(0, whole)


def test_threads_are_divided():
    whole = threads_per_slot(1)
    assert threads_per_slot(2) == max(1, whole // 2)
    assert threads_per_slot(10 * whole) == 1
