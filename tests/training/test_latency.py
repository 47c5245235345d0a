"""The latency measurement."""

import itertools
import math
import multiprocessing
import os
from pathlib import Path
from time import perf_counter, sleep

import pytest
import torch
from torch import nn

from codes.training import latency, train
from codes.training.cpu import cpu_settings
from codes.training.latency import FEWEST_REPEATS, WARM_UP_CALLS, Call, host_lock, measure_latency, time_in_turn
from tests.training import example


class Counted(nn.Module):
    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, x0, t, p=None):
        self.calls += 1
        assert not self.training
        return x0.unsqueeze(1).expand(-1, len(t), -1)


def test_as_many_repeats_as_asked_for_after_a_warm_up():
    data, model = example.data(), Counted()
    latency = measure_latency(model, data.test, data.t, 20)
    assert latency.repeats == 20
    assert model.calls > 20
    assert latency.median > 0
    assert latency.spread >= 0


def test_one_repeat_has_no_spread():
    data = example.data()
    assert measure_latency(Counted(), data.test, data.t, 1).spread == 0


def test_a_slow_model_is_repeated_less_often_but_never_too_seldom(monkeypatch):
    monkeypatch.setattr("codes.training.latency.LONGEST_SECONDS", 0.0)
    data = example.data()
    assert measure_latency(Counted(), data.test, data.t, 50).repeats == FEWEST_REPEATS


def test_it_takes_a_small_share_of_a_training_unless_the_inference_time_is_sought(monkeypatch):
    monkeypatch.setattr("codes.training.progress.LARGEST_SHARE", 0.0)
    few, many = ["trainer.latency_repeats=20"], ["trainer.latency_repeats=20", "objective=dual"]
    results = [train(example.config("MultiONet", *changes), example.data(), "cpu") for changes in (few, many)]
    assert [result.latency.repeats for result in results] == [FEWEST_REPEATS, 20]


class Waiting(Counted):
    """Waits in each prediction, as a thread does whose core another program has."""

    seconds = 0.02

    def forward(self, x0, t, p=None):
        sleep(self.seconds)
        return super().forward(x0, t, p)


def test_the_wait_for_a_core_does_not_count_where_one_thread_does_all_the_work():
    data = example.data()
    with cpu_settings(1):
        assert measure_latency(Waiting(), data.test, data.t, 5).median < Waiting.seconds
    one, two = (Call(Waiting(), data.test, data.t, threads) for threads in (1, 2))
    alone, together = time_in_turn([one, two], rounds=5)
    assert max(alone) < Waiting.seconds <= min(together)
    with cpu_settings(2):  # some of them wait for others, which is part of a prediction
        assert measure_latency(Waiting(), data.test, data.t, 5).median >= Waiting.seconds


def test_a_clock_that_ticks_too_seldom_times_nothing(monkeypatch):
    seconds = itertools.count()
    monkeypatch.setattr("codes.training.latency.thread_time", lambda: next(seconds) // 100 / 100)  # every 10 ms
    with cpu_settings(1):
        assert latency.clock_of(torch.device("cpu")) is perf_counter


def test_a_single_interruption_makes_no_clock_too_coarse(monkeypatch):
    times = iter([0.0, 5e-5, *(1 + 1e-6 * tick for tick in range(100))])

    def clock():
        return next(times)

    monkeypatch.setattr("codes.training.latency.thread_time", clock)
    with cpu_settings(1):
        assert latency.clock_of(torch.device("cpu")) is clock


class Noted(Counted):
    def __init__(self, name, notes):
        super().__init__()
        self.name, self.notes = name, notes

    def forward(self, x0, t, p=None):
        self.notes.append(self.name)
        return super().forward(x0, t, p)


def test_in_turn_each_model_is_warmed_up_anew_for_it_finds_the_caches_full_of_another_one():
    data, notes = example.data(), []
    calls = [Call(Noted(name, notes), data.test, data.t) for name in "abc"]
    seconds = time_in_turn(calls, rounds=5)
    assert [len(times) for times in seconds] == [5, 5, 5]
    in_a_row = WARM_UP_CALLS + 1  # one of them is timed
    turns = [notes[start : start + in_a_row] for start in range(0, len(notes), in_a_row)]
    assert all(len(turn) == in_a_row and len(set(turn)) == 1 for turn in turns)
    assert all({turn[0] for turn in turns[start : start + 3]} == set("abc") for start in range(0, 15, 3))
    assert len(turns) == 15


def hold(path, pipe):
    with host_lock(path):
        pipe.send("held")
        pipe.recv()
        os._exit(1)  # dies with the lock held


def try_to_hold(path, pipe):
    pipe.send("waiting")
    with host_lock(path):
        pipe.send("held")


def test_a_stopped_process_is_not_waited_for_for_ever(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("codes.training.latency.PATIENCE", 0.1)
    with host_lock(tmp_path / "lock"):
        with host_lock(tmp_path / "lock"):
            assert caplog.text.count("lock has been held for 0 s; measured beside") == 1
        monkeypatch.setattr("codes.training.latency.PATIENCE", math.inf)
        with host_lock(tmp_path / "lock"):  # nor at each of the next measurements
            pass
    with host_lock(tmp_path / "lock"):
        assert latency._in_vain == set()


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="root can make files elsewhere")
def test_where_no_lock_can_be_made_it_is_measured_without(monkeypatch, caplog):
    path = Path("/proc/codes-latency.lock")
    monkeypatch.setattr("codes.training.latency._in_vain", set())
    for _ in range(2):
        with host_lock(path):  # the training is over by now, and would be lost
            pass
    assert caplog.text.count(f"{path} cannot be opened") == 1


def test_one_measurement_at_a_time_per_host_and_a_dead_process_frees_it(tmp_path):
    context, path = multiprocessing.get_context("spawn"), tmp_path / "lock"
    (first, first_end), (second, second_end) = context.Pipe(), context.Pipe()
    holder = context.Process(target=hold, args=(path, first_end))
    waiter = context.Process(target=try_to_hold, args=(path, second_end))
    holder.start()
    assert first.recv() == "held"
    waiter.start()
    assert second.recv() == "waiting"
    assert not second.poll(0.3)
    first.send("die")
    assert second.recv() == "held"
    for process in (holder, waiter):
        process.join(30)
        assert process.exitcode is not None


@pytest.mark.skipif(os.geteuid() == 0, reason="root may open everything")
def test_a_lock_file_of_somebody_else_is_good_enough(tmp_path):
    path = tmp_path / "lock"
    path.touch(mode=0o444)
    with host_lock(path):
        pass
