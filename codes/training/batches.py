"""Batches: blocks of trajectories x times, gathered by index on the device of the data."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from codes.data import PreparedData
from codes.schema import TrainerConfig

EVALUATION_ROWS = 2**16  # (trajectory, time) rows predicted at once where no gradient is needed: bounds the memory


class Batch(NamedTuple):
    """What one training step sees: ``x0 [B, Q]``, ``t [T]``, ``p [B, P]`` or none, and the truth ``x [B, T, Q]``."""

    x0: Tensor
    t: Tensor
    p: Tensor | None
    x: Tensor


@dataclass(frozen=True)
class Blocks:
    """Partition of ``n_trajectories x n_times`` pairs into ``n_groups * n_chunks`` blocks, drawn anew in each epoch.

    Trajectories are shuffled and cut into groups; for each group the times are dealt into chunks. So each pair is in
    exactly one block, each block is a full grid (a branch net runs once per trajectory and a trunk net once per time),
    and block sizes differ by at most one in either direction.
    """

    n_trajectories: int
    n_times: int
    n_groups: int
    n_chunks: int

    def __len__(self) -> int:
        return self.n_groups * self.n_chunks

    @property
    def largest(self) -> tuple[int, int]:
        """Trajectories and times of the largest block."""
        return math.ceil(self.n_trajectories / self.n_groups), math.ceil(self.n_times / self.n_chunks)

    def epoch(self, generator: torch.Generator, device: torch.device) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Trajectory and time indices of each block; no time indices where a block has all times in their order.

        Drawn on the CPU, so that a seed means the same order on every device, and moved once per epoch.
        """
        groups = torch.randperm(self.n_trajectories, generator=generator).to(device).tensor_split(self.n_groups)
        if self.n_chunks == 1:
            yield from ((group, None) for group in groups)
            return
        times, sizes = self._deal_times(generator)
        times_of = times.to(device).split(sizes)
        for index in torch.randperm(len(self), generator=generator).tolist():
            yield groups[index // self.n_chunks], times_of[index]

    def _deal_times(self, generator: torch.Generator) -> tuple[Tensor, list[int]]:
        """Times of all blocks one after the other, and how many each block has.

        Of every ``n_chunks`` consecutive times each chunk gets a random one. A chunk so covers the whole time range,
        and gradients vary less than with a random subset: 5 % lower errors at equal epochs.
        """
        n_strata = math.ceil(self.n_times / self.n_chunks)
        dealt = torch.rand(self.n_groups, n_strata, self.n_chunks, generator=generator).argsort(-1)
        times = (dealt + torch.arange(n_strata).unsqueeze(1) * self.n_chunks).transpose(1, 2)
        exists = times < self.n_times  # the last stratum may be short
        return times[exists], exists.sum(-1).flatten().tolist()


def plan_blocks(pointwise: bool, n_trajectories: int, n_times: int, trainer: TrainerConfig) -> Blocks:
    """Blocks of at most ``batch_size`` rows and ``batch_times`` times, or of ``batch_size`` whole trajectories.

    Without ``batch_times``, a block has about four times as many trajectories as times, which of all shapes tried gave
    the lowest errors at equal epochs; where there are too few trajectories to fill it, it has more times.
    """
    if not pointwise:
        return Blocks(n_trajectories, n_times, math.ceil(n_trajectories / trainer.batch_size), 1)
    rows = trainer.batch_size
    widest = trainer.batch_times or max(math.isqrt(rows // 4), rows // n_trajectories, 1)
    n_chunks = math.ceil(n_times / min(widest, rows, n_times))
    longest_chunk = math.ceil(n_times / n_chunks)
    return Blocks(n_trajectories, n_times, math.ceil(n_trajectories / max(rows // longest_chunk, 1)), n_chunks)


class Batches:
    """Batches of the training split in the order of a seeded generator."""

    def __init__(self, data: PreparedData, blocks: Blocks) -> None:
        self.blocks, self.t = blocks, data.t
        self.x, self.p = data.train.x, data.train.p
        self.x0 = data.train.x[:, 0].contiguous()
        self.rows = self.x.reshape(-1, self.x.shape[-1])

    def epoch(self, generator: torch.Generator) -> Iterator[Batch]:
        """All batches of one epoch."""
        for trajectories, times in self.blocks.epoch(generator, self.x.device):
            yield self.gather(trajectories, times)

    def gather(self, trajectories: Tensor, times: Tensor | None) -> Batch:
        """The batch of the block ``trajectories x times``."""
        x0 = self.x0.index_select(0, trajectories)
        p = None if self.p is None else self.p.index_select(0, trajectories)
        if times is None:
            return Batch(x0, self.t, p, self.x.index_select(0, trajectories))
        # One gather of rows is faster than two nested ones over trajectories and times.
        rows = (trajectories * len(self.t)).unsqueeze(1) + times
        x = self.rows.index_select(0, rows.view(-1)).view(*rows.shape, -1)
        return Batch(x0, self.t.index_select(0, times), p, x)


def chunks(n_trajectories: int, n_times: int) -> Iterator[slice]:
    """Slices of trajectories with at most ``EVALUATION_ROWS`` rows each, at least one trajectory."""
    step = max(EVALUATION_ROWS // n_times, 1)
    for start in range(0, n_trajectories, step):
        yield slice(start, min(start + step, n_trajectories))
