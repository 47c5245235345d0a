"""How PyTorch computes on the CPU while a training or a measurement lasts."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def cpu_settings(threads: int | None) -> Iterator[None]:
    """``threads`` CPU threads inside, or PyTorch's choice; afterwards as many as before.

    Inside, numbers below 1e-38 are 0. A CPU takes ten times as long for them, and momenta of weights whose neuron is
    dead shrink to them within a thousand steps (docs/performance.md).
    """
    before, flushed = torch.get_num_threads(), is_flushed()
    torch.set_num_threads(threads or before)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_num_threads(before)
        torch.set_flush_denormal(flushed)


def is_flushed() -> bool:
    """Whether numbers too small for float32's full precision count as 0 in this thread."""
    return (torch.tensor(1e-30) * 1e-10).item() == 0
