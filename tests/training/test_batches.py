"""Batches: exactly once, of the right size, with the right content."""

import math
from dataclasses import replace
from itertools import pairwise

import torch
from hypothesis import given
from hypothesis import strategies as st

from codes.training.batches import EVALUATION_ROWS, Batches, chunks, plan_blocks
from codes.training.stacked_batches import StackedBatches
from tests.training import example

TRAINER = example.config().trainer
sizes = st.integers(1, 60)


def trainer_with(batch_size, batch_times):
    return replace(TRAINER, batch_size=batch_size, batch_times=batch_times)


def drawn_of(blocks, seed=0):
    """Trajectories and times of each block; none for all times."""
    drawn = blocks.draw(torch.Generator().manual_seed(seed))
    trajectories = [row[:n] for row, n in zip(drawn.trajectories, drawn.n_trajectories, strict=True)]
    if drawn.times is None:
        return [(some, None) for some in trajectories]
    times = [row[:n] for row, n in zip(drawn.times, drawn.n_times, strict=True)]
    return list(zip(trajectories, times, strict=True))


def pairs(blocks, seed=0):
    for trajectories, times in drawn_of(blocks, seed):
        yield trajectories.tolist(), list(range(blocks.n_times)) if times is None else times.tolist()


@given(sizes, sizes, st.integers(1, 300), st.none() | sizes, st.integers(0, 9))
def test_each_pair_is_seen_exactly_once_in_blocks_that_keep_the_limits(n, n_times, batch_size, batch_times, seed):
    trainer = trainer_with(batch_size, batch_times)
    blocks = plan_blocks(True, n, n_times, trainer)
    drawn = list(pairs(blocks, seed))
    seen = sorted((i, j) for trajectories, times in drawn for i in trajectories for j in times)
    assert seen == [(i, j) for i in range(n) for j in range(n_times)]
    assert len(drawn) == len(blocks)
    assert all(1 <= len(trajectories) * len(times) <= batch_size for trajectories, times in drawn)
    assert all(len(times) <= (batch_times or n_times) for _, times in drawn)
    for lengths in zip(*((len(trajectories), len(times)) for trajectories, times in drawn), strict=True):
        assert max(lengths) - min(lengths) <= 1


@given(sizes, sizes, st.integers(1, 80))
def test_whole_trajectories_are_seen_exactly_once(n, n_times, batch_size):
    blocks = plan_blocks(False, n, n_times, trainer_with(batch_size, None))
    drawn = drawn_of(blocks)
    assert sorted(i for trajectories, _ in drawn for i in trajectories.tolist()) == list(range(n))
    assert all(times is None and len(trajectories) <= batch_size for trajectories, times in drawn)
    assert len(drawn) == math.ceil(n / batch_size)


def test_the_workload_of_the_benchmark_gives_blocks_of_nearly_the_batch_size():
    blocks = plan_blocks(True, 500, 101, trainer_with(1024, None))
    rows = [len(trajectories) * len(times) for trajectories, times in pairs(blocks)]
    assert 850 < min(rows) <= max(rows) <= 1024


def test_a_block_covers_the_time_range():
    blocks = plan_blocks(True, 64, 96, trainer_with(256, 8))
    for _, times in pairs(blocks):
        assert [time // blocks.n_chunks for time in times] == list(range(8))


def test_the_seed_decides_the_order():
    blocks = plan_blocks(True, 30, 20, trainer_with(64, None))
    assert list(pairs(blocks, 1)) == list(pairs(blocks, 1))
    assert list(pairs(blocks, 1)) != list(pairs(blocks, 2))


def test_batches_hold_what_their_indices_say():
    data = example.data(parameters=True)
    batches = Batches(data, plan_blocks(True, 24, 21, trainer_with(40, None)))
    trajectories, times = torch.tensor([5, 0, 23]), torch.tensor([20, 3])
    batch = batches.gather(trajectories, times)
    torch.testing.assert_close(batch.x, data.train.x[trajectories][:, times], rtol=0, atol=0)
    torch.testing.assert_close(batch.x0, data.train.x[trajectories, 0], rtol=0, atol=0)
    torch.testing.assert_close(batch.p, data.train.p[trajectories], rtol=0, atol=0)
    torch.testing.assert_close(batch.t, data.t[times], rtol=0, atol=0)
    whole = batches.gather(trajectories)
    for found, expected in zip(whole, (batch.x0, data.t, batch.p, data.train.x[trajectories]), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_an_epoch_has_every_row_once_and_counts_them():
    data, order = example.data(), torch.Generator().manual_seed(0)
    batches = Batches(data, plan_blocks(True, 24, 21, trainer_with(40, None)))
    blocks = list(batches.epoch(order))
    seen = sorted((i, j) for some, times in blocks for i in some.tolist() for j in times.tolist())
    assert seen == [(i, j) for i in range(24) for j in range(21)]
    assert sum(batches.n_rows(*indices) for indices in blocks) == 24 * 21
    batches = Batches(data, plan_blocks(False, 24, 21, trainer_with(7, None)))
    blocks = list(batches.epoch(order))
    assert sorted(i for (some,) in blocks for i in some.tolist()) == list(range(24))
    assert sum(batches.n_rows(*indices) for indices in blocks) == 24 * 21


@given(st.integers(1, 10**6), st.integers(1, 10**6))
def test_slices_for_evaluation_cover_all_trajectories_in_bounded_pieces(n, n_times):
    if n * n_times > 2 * 10**8:  # too many slices to list
        n = 1 + 2 * 10**8 // n_times
    parts = list(chunks(n, n_times))
    assert parts[0].start == 0 and parts[-1].stop == n
    assert all(a.stop == b.start for a, b in pairwise(parts))
    assert all((part.stop - part.start) * n_times <= max(EVALUATION_ROWS, n_times) for part in parts)


def test_a_stack_gives_the_same_tensor_of_all_times_at_each_step():
    """What a model computes of the times it computes once for a tensor (``codes.surrogates.memo``)."""
    data = example.data()
    batches = StackedBatches(Batches(data, plan_blocks(False, len(data.train), len(data.t), trainer_with(8, None))))
    for n in (3, 2):  # one has left
        orders = [torch.Generator().manual_seed(seed) for seed in range(n)]
        times = [batches.gather(*indices).batch.t for _, indices in batches.epoch(orders)]
        assert len(times) == 3 and all(t is times[0] for t in times)
        assert torch.equal(times[0], torch.stack([data.t] * n))
