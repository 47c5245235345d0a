"""Devices: their names, checked against this machine, their models and their memory. PyTorch is imported when asked."""

import platform
import sys
from collections.abc import Sequence
from pathlib import Path

from codes.errors import UserError


def visible_gpus() -> list[str]:
    """``cuda:0``, ``cuda:1``, ... of this process, or none."""
    import torch

    return [f"cuda:{index}" for index in range(torch.cuda.device_count())]


def resolve_device(name: str) -> str:
    """Name of a device that exists; ``auto`` is the first visible GPU, else the CPU.

    Raises:
        UserError: the device is not on this machine.
    """
    gpus = visible_gpus()
    if name == "auto":
        return gpus[0] if gpus else "cpu"
    if name == "cuda" and gpus:
        return gpus[0]
    if name not in ("cpu", *gpus):
        raise UserError(f"device '{name}' is not on this machine; choose from {', '.join(['cpu', *gpus])}")
    return name


def expand_devices(devices: Sequence[str]) -> list[str]:
    """``devices`` with every visible GPU, or the CPU where there is none, in place of ``auto``; not checked."""
    return [name for device in devices for name in (visible_gpus() or ["cpu"] if device == "auto" else [device])]


def device_model(name: str) -> str:
    """Model of the device ``name``, for example ``NVIDIA H100 80GB HBM3``; of a CPU what the system says of it."""
    if name.startswith("cuda"):
        import torch

        return torch.cuda.get_device_name(name)
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except FileNotFoundError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


class PeakMemory:
    """Most memory that this process has held on a device since ``start``, in bytes.

    On a GPU what PyTorch allocated there. On the CPU the resident memory of the process, where the system counts it
    from a chosen moment on (Linux), elsewhere from its start.
    """

    def __init__(self, device: str) -> None:
        self.on_gpu = device.startswith("cuda")
        self.device = device

    def start(self) -> None:
        """Count from now on."""
        if self.on_gpu:
            import torch

            torch.cuda.reset_peak_memory_stats(self.device)
        elif sys.platform == "linux":
            Path("/proc/self/clear_refs").write_text("5")  # proc(5): reset the peak of the resident set

    def read(self) -> int:
        """Bytes so far."""
        if self.on_gpu:
            import torch

            return torch.cuda.max_memory_allocated(self.device)
        if sys.platform == "linux":
            status = Path("/proc/self/status").read_text().splitlines()
            return 1024 * int(next(line.split()[1] for line in status if line.startswith("VmHWM:")))
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else 1024 * peak
