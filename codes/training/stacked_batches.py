"""Batches of K trainings side by side, each in the order of its own generator."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from codes.training.batches import Batch, Batches


class StackedBatch(NamedTuple):
    """One step of K trainings.

    ``batch``: ``x0 [K, B, Q]``, ``t [K, T]``, ``p [K, B, P]`` or none, ``x [K, B, T, Q]``. ``weights``: [K, B, T], one
    over the number of rows that a training has, and 0 for rows that are only there because another training has more;
    none where all have all.
    """

    batch: Batch
    weights: Tensor | None


class StackedBatches:
    """The batches that each training would have alone, one of each at a time."""

    def __init__(self, batches: Batches) -> None:
        self.batches, self.device = batches, batches.x.device
        self.t = batches.t.unsqueeze(0)  # all times of each training; the same tensor step after step, for memos of it

    def epoch(self, orders: Sequence[torch.Generator]) -> Iterator[tuple[Tensor, tuple[Tensor, ...]]]:
        """Of each step of one epoch how many rows each training has, [K], and the indices of its batch."""
        drawn = [self.batches.blocks.draw(order) for order in orders]
        trajectories = torch.stack([each.trajectories for each in drawn], 1).to(self.device)
        n_trajectories = torch.stack([each.n_trajectories for each in drawn], 1)
        times = [each.times for each in drawn if each.times is not None]
        if not times:
            rows = (n_trajectories * len(self.batches.t)).double().to(self.device)
            longest = n_trajectories[:, 0].tolist()  # the i-th block is as large in every training
            parts = (part[:, :n].contiguous() for part, n in zip(trajectories, longest, strict=True))
            return ((of_step, (part,)) for of_step, part in zip(rows, parts, strict=True))
        n_times = torch.stack([each.n_times for each in drawn if each.n_times is not None], 1)
        rows = (n_trajectories * n_times).double().to(self.device)
        chunks = torch.stack(times, 1)
        weights = (shares(n_trajectories, trajectories.shape[-1]), shares(n_times, chunks.shape[-1]))
        moved = (trajectories, *(part.to(self.device) for part in (chunks, *weights)))
        return zip(rows, zip(*moved, strict=True), strict=True)

    def gather(
        self,
        trajectories: Tensor,
        times: Tensor | None = None,
        of_trajectories: Tensor | None = None,
        of_times: Tensor | None = None,
    ) -> StackedBatch:
        """The batch of ``trajectories`` [K, B], and of ``times`` [K, T] with the weights of both, or of all times."""
        index, shape = trajectories.view(-1), trajectories.shape
        x0 = self.batches.x0.index_select(0, index).unflatten(0, shape)
        p = None if self.batches.p is None else self.batches.p.index_select(0, index).unflatten(0, shape)
        if times is None or of_trajectories is None or of_times is None:
            x = self.batches.x.index_select(0, index).unflatten(0, shape)
            if len(self.t) != len(trajectories):
                self.t = self.batches.t.expand(len(trajectories), -1)
            return StackedBatch(Batch(x0, self.t, p, x), None)
        rows = trajectories.unsqueeze(2) * len(self.batches.t) + times.unsqueeze(1)
        x = self.batches.rows.index_select(0, rows.view(-1)).view(*rows.shape, -1)
        t = self.batches.t.index_select(0, times.view(-1)).view(times.shape)
        return StackedBatch(Batch(x0, t, p, x), of_trajectories.unsqueeze(2) * of_times.unsqueeze(1))


def shares(numbers: Tensor, width: int) -> Tensor:
    """Weights [..., width]: one over a number for as many, then 0."""
    numbers = numbers.unsqueeze(-1)
    return (torch.arange(width) < numbers) / numbers
