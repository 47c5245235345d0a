"""Training steps that a GPU gets as one: recorded once as a CUDA graph, then launched whole, not kernel by kernel."""

import math
import statistics
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor

from codes.surrogates.base import Effort, Surrogate

Step = Callable[..., Tensor]
# Steps of a training before any is recorded, in which libraries set themselves up, and then of each way that are timed.
FIRST, TIMED = 3, 5
STEPS = 8  # of a solver: graphs have a multiple of them
MOST_GRAPHS = 16
SETTLED = 32  # steps after which the faster way is known: batches have at most four shapes, and each is recorded once


class Optimizing(Protocol):
    """An optimiser, as far as a step needs it."""

    def begin_step(self) -> None:
        """Set the learning rate of the next step."""

    def apply(self) -> None:
        """Take the step down the gradients that there are; from one to the next only tensors on the device change."""


class TrainingStep:
    """One step of a training, which returns its loss: ``gradients(*indices)``, then that of the optimiser.

    On a GPU, what can be recorded of it is. The loss is then to be read before the next step takes its place.
    """

    def __init__(self, model: Surrogate, gradients: Step, optimizer: Optimizing, device: torch.device) -> None:
        def whole(*indices: Tensor) -> Tensor:
            loss = gradients(*indices)
            optimizer.apply()
            return loss

        self.optimizer = optimizer
        self.step: Step = whole
        self.captured: Captured | None = None
        self.is_whole = True
        if device.type == "cuda" and model.capturable:
            self.is_whole = model.effort is None  # whose gradients may have to be taken again
            self.step = self.captured = Captured(whole if self.is_whole else gradients, device, model.effort)

    def __call__(self, *indices: Tensor) -> Tensor:
        self.optimizer.begin_step()
        loss = self.step(*indices)
        if not self.is_whole:
            self.optimizer.apply()
        return loss


class Captured:
    """``function`` of tensors on a GPU, as a CUDA graph for each of their shapes where that is faster.

    The first calls run it as it is and the next ones as graphs, both timed on the device; the faster way does the rest.
    All of them are calls that are asked for, so nothing is done twice, and a graph launches the same kernels, so the
    values are the same. ``function`` must read nothing back from the device, and keep its state in tensors that stay
    where they are.

    With an ``effort``, a graph has about as many solver steps as were needed of late. Where they do not suffice, or the
    result is not finite for another reason, ``function`` itself is called.
    """

    def __init__(self, function: Step, device: torch.device, effort: Effort | None = None) -> None:
        self.function, self.device, self.effort = function, device, effort
        self.graphs: dict[tuple[object, ...], _Graph] = {}
        self.pool = torch.cuda.graph_pool_handle()
        self.calls = 0
        self.eager: list[_Span] = []
        self.replays: list[_Span] = []
        self.pays: bool | None = None  # not known yet
        self.needed: deque[int] = deque(maxlen=16)  # solver steps of the last calls

    def __call__(self, *inputs: Tensor) -> Tensor:
        self.calls += 1
        with torch.cuda.device(self.device):
            if self.calls <= FIRST or self.pays is False:
                return self.unrecorded(*inputs)
            if self.pays is None and len(self.eager) < TIMED:
                return self.timed(self.eager, self.unrecorded, inputs)
            graph = self.graph_for(inputs)
            if self.pays is None and graph.was_launched:  # which also moved it to the device
                result = self.timed(self.replays, graph, inputs)
                if len(self.replays) == TIMED:
                    self.pays = _median(self.replays) < _median(self.eager)
            else:
                result = graph(*inputs)
            if self.effort is None:
                return result
            if not math.isfinite(result.item()):
                return self.unrecorded(*inputs)
            self.needed.append(int(graph.needed))
            return result

    def unrecorded(self, *inputs: Tensor) -> Tensor:
        """The result of ``function``."""
        result = self.function(*inputs)
        if self.effort is not None:
            self.needed.append(int(self.effort.needed))
        return result

    def graph_for(self, inputs: tuple[Tensor, ...]) -> "_Graph":
        """The graph for these shapes, recorded if there is none."""
        n_steps = 0 if self.effort is None else math.ceil((max(self.needed) + 1) / STEPS) * STEPS
        key = (n_steps, *(tensor.shape for tensor in inputs))
        if key not in self.graphs:
            if len(self.graphs) >= MOST_GRAPHS:
                self.graphs.clear()
            with _fixed(self.effort, n_steps):
                self.graphs[key] = _Graph(self.function, inputs, self.pool)
                self.graphs[key].needed = self.effort.needed if self.effort else 0
        return self.graphs[key]

    def timed(self, spans: "list[_Span]", function: Step, inputs: tuple[Tensor, ...]) -> Tensor:
        """Call ``function`` between two events of the device."""
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        loss = function(*inputs)
        end.record()
        spans.append((start, end))
        return loss


@contextmanager
def _fixed(effort: Effort | None, n_steps: int) -> Iterator[None]:
    """Inside, a solver takes ``n_steps``."""
    if effort is None:
        yield
        return
    effort.fixed = n_steps
    try:
        yield
    finally:
        effort.fixed = None


_Span = tuple[torch.cuda.Event, torch.cuda.Event]


def _median(spans: list[_Span]) -> float:
    """Milliseconds; waits for the last one."""
    spans[-1][1].synchronize()
    return statistics.median(start.elapsed_time(end) for start, end in spans)


class _Graph:
    """``function`` at inputs of one shape; its result is overwritten by the next call."""

    def __init__(self, function: Step, inputs: tuple[Tensor, ...], pool: Any) -> None:
        self.needed: int | Tensor = 0
        self.was_launched = False
        self.inputs = [tensor.clone(memory_format=torch.contiguous_format) for tensor in inputs]
        self.graph = torch.cuda.CUDAGraph()
        # Other threads of the process may use the device meanwhile, so only this one is held to what can be recorded.
        with torch.cuda.graph(self.graph, pool=pool, capture_error_mode="thread_local"):
            self.loss = function(*self.inputs)

    def __call__(self, *inputs: Tensor) -> Tensor:
        for own, given in zip(self.inputs, inputs, strict=True):
            own.copy_(given)
        self.graph.replay()
        self.was_launched = True
        return self.loss
