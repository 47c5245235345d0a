"""How much memory a training will need, from shapes alone, and whether there is as much."""

import math
import weakref
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from codes import surrogates
from codes.data import PreparedData, TensorSplit
from codes.errors import TooLarge
from codes.memory import available
from codes.schema import TrainConfig
from codes.training.batches import Batches, chunks, plan_blocks
from codes.training.evaluation import inference, slice_errors
from codes.training.optim import criterion

MIB = 2**20
# What is resident beyond the tensors: libraries' own buffers, and holes between pieces of different sizes. Measured
# (tests/training/test_footprint.py) 1.0 to 1.9 times the tensors, and up to 25 MiB where they are few.
MARGIN, LIBRARIES = 1.5, 32 * MIB
# Bytes for each neuron and row: a layer's value, argument and gradients take 20, solvers and recipes of one's own more.
# What so fits is not looked at more closely, which would take 20 to 40 ms.
AMPLE = 1000


def check_fits(config: TrainConfig, data: PreparedData, device: torch.device, members: int = 1) -> None:
    """Raise ``TooLarge`` where a training is predicted to need more memory than this process can get on ``device``.

    A stack of ``members`` is taken to need as much as they need one by one; their data are one.

    On a host that gives memory before it has it (Linux), the kernel would kill the process instead.
    """
    there = available(str(device))
    if there is None or members * ample(config, data) < there:
        return
    needed = round(members * MARGIN * footprint(config, data, recorded=device.type == "cuda")) + LIBRARIES
    if needed > there:
        what = "the training" if members == 1 else f"{members} trainings together"
        raise TooLarge(
            f"out of memory: {what} would need about {needed // MIB} MiB on {device}, where {there // MIB} MiB "
            "are available; take a smaller network or trainer.batch_size, or trainer.check_memory=false to try it"
        )


def ample(config: TrainConfig, data: PreparedData) -> int:
    """Bytes that a training certainly does with, from the sizes of its layers and the rows of a batch."""
    with torch.device("meta"):
        model = surrogates.build(config.surrogate, data.spec)
    blocks = plan_blocks(model.pointwise, len(data.train), len(data.t), config.trainer)
    evaluated = next(chunks(len(data.test), len(data.t)))
    rows = math.prod(blocks.largest) + (evaluated.stop * len(data.t)) // 10  # which keep no values for gradients
    parameters = list(model.parameters())
    neurons = sum(len(weight) for weight in parameters if weight.ndim > 1)
    return LIBRARIES + AMPLE * rows * neurons + 32 * sum(weight.numel() for weight in parameters)


def footprint(config: TrainConfig, data: PreparedData, recorded: bool = False) -> int:
    """Bytes that a training holds at its peak, besides its data: a step and an evaluation on tensors without values.

    A step that is ``recorded`` as a CUDA graph keeps its memory, also while something else is computed.
    """
    data = data.to("meta")
    with Allocations() as memory:
        with torch.device("meta"):
            model = surrogates.build(config.surrogate, data.spec)
        weights = memory.held
        blocks = plan_blocks(model.pointwise, len(data.train), len(data.t), config.trainer)
        indices = [torch.empty(n, dtype=torch.long, device="meta") for n in blocks.largest]
        batch = Batches(data, blocks).gather(*(indices[:1] if blocks.n_chunks == 1 else indices))
        model.loss(*batch, criterion(config.surrogate)).backward()
        del batch
        lasting, of_step = memory.held, memory.peak - memory.held
        memory.peak = lasting
        _evaluate_slice(model, data)
    of_evaluation = memory.peak - lasting
    temporary = of_step + of_evaluation if recorded and model.capturable else max(of_step, of_evaluation)
    kept = 1 + (2 if config.surrogate.optimizer == "adamw" else 1)  # the best weights, and the optimiser's state
    return lasting + temporary + kept * weights + 4 * data.test.x.numel()


def _evaluate_slice(model: surrogates.Surrogate, data: PreparedData) -> None:
    part = next(chunks(len(data.test), len(data.t)))
    p = None if data.test.p is None else data.test.p[part]
    split = TensorSplit(data.test.x[part], p)
    with inference(model):
        slice_errors(model(split.x[:, 0], data.t, p), split.x, data.transform, data.transform.error_scale.float())


class Allocations(TorchDispatchMode):
    """Inside, the bytes of all tensors that were made inside are counted: ``held`` now, and at the ``peak``."""

    def __init__(self) -> None:
        super().__init__()
        self.held = self.peak = 0
        self._seen: weakref.WeakSet[torch.UntypedStorage] = weakref.WeakSet()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in tree_leaves(result):
            if isinstance(value, Tensor):
                self._count(value.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        if storage in self._seen:
            return
        self._seen.add(storage)
        self.held += storage.nbytes()
        self.peak = max(self.peak, self.held)
        weakref.finalize(storage, self._freed, storage.nbytes())

    def _freed(self, size: int) -> None:
        self.held -= size
