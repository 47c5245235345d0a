"""Batches of K trainings side by side, each in the order of its own generator."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from codes.training.batches import Batch, Batches


class StackedBatch(NamedTuple):
    """One step of K trainings.

    ``batch``: ``x0 [K, B, Q]``, ``t [K, T]``, ``p [K, B, P]`` or none, ``x [K, B, T, Q]``. ``rows``: how many rows of
    it each training has, [K]. ``weights``: [K, B, T], one over that number, and 0 for rows that are only there because
    another training has more; none where all have all.
    """

    batch: Batch
    rows: Tensor
    weights: Tensor | None


class StackedBatches:
    """The batches that each training would have alone, one of each at a time."""

    def __init__(self, batches: Batches) -> None:
        self.batches, self.device = batches, batches.x.device

    def epoch(self, orders: Sequence[torch.Generator]) -> Iterator[StackedBatch]:
        """All steps of one epoch."""
        # Indices are put together on the CPU, where they are drawn, and moved once.
        drawn = [list(self.batches.blocks.epoch(order, torch.device("cpu"))) for order in orders]
        if self.batches.blocks.n_chunks == 1:
            yield from self.whole([[group for group, _ in blocks] for blocks in drawn])
        else:
            yield from self.chunked(drawn)

    def whole(self, drawn: Sequence[Sequence[Tensor]]) -> Iterator[StackedBatch]:
        """Blocks with all times: the i-th has as many trajectories in every training."""
        t = self.batches.t.expand(len(drawn), -1)
        for groups in zip(*drawn, strict=True):
            trajectories = torch.stack(groups).to(self.device)
            x0, p = self.states(trajectories)
            x = self.batches.x.index_select(0, trajectories.view(-1)).unflatten(0, trajectories.shape)
            n_rows = trajectories.shape[1] * len(self.batches.t)
            yield StackedBatch(Batch(x0, t, p, x), torch.full((len(drawn),), n_rows, device=self.device), None)

    def chunked(self, drawn: Sequence[Sequence[tuple[Tensor, Tensor | None]]]) -> Iterator[StackedBatch]:
        """Blocks of any trajectories and times, padded to the largest."""
        trajectories, of_trajectories = self.padded([[group for group, _ in blocks] for blocks in drawn])
        times, of_times = self.padded([[times for _, times in blocks if times is not None] for blocks in drawn])
        counts = (of_trajectories.count_nonzero(-1) * of_times.count_nonzero(-1)).unbind()
        for some, chunk, *weights, rows in zip(
            trajectories.unbind(), times.unbind(), of_trajectories.unbind(), of_times.unbind(), counts, strict=True
        ):
            x0, p = self.states(some)
            index = some.unsqueeze(2) * len(self.batches.t) + chunk.unsqueeze(1)
            x = self.batches.rows.index_select(0, index.view(-1)).view(*index.shape, -1)
            t = self.batches.t.index_select(0, chunk.view(-1)).view(chunk.shape)
            yield StackedBatch(Batch(x0, t, p, x), rows, weights[0].unsqueeze(2) * weights[1].unsqueeze(1))

    def states(self, trajectories: Tensor) -> tuple[Tensor, Tensor | None]:
        """Initial states and parameters of ``trajectories`` [K, B]."""
        index, shape = trajectories.view(-1), trajectories.shape
        x0 = self.batches.x0.index_select(0, index).unflatten(0, shape)
        return x0, None if self.batches.p is None else self.batches.p.index_select(0, index).unflatten(0, shape)

    def padded(self, indices: Sequence[Sequence[Tensor]]) -> tuple[Tensor, Tensor]:
        """Indices [steps, K, L], filled up with 0; a weight for each, one over their number, or 0 for what fills up."""
        longest = max(len(index) for each in indices for index in each)
        flat = [*(index for step in zip(*indices, strict=True) for index in step)]
        lengths = torch.tensor([len(index) for index in flat]).unsqueeze(1)
        weights = (torch.arange(longest) < lengths) / lengths
        shape = (-1, len(indices), longest)
        filled = pad_sequence(flat, batch_first=True)
        return filled.view(shape).to(self.device), weights.view(shape).to(self.device)
