"""Devices: their names, checked against this machine, and their models. PyTorch is imported when asked."""

import os
import platform
from collections.abc import Callable, Sequence
from pathlib import Path

from codes.errors import UserError

SEVERAL: dict[str, Callable[[], list[str]]] = {  # names that stand for others
    "auto": lambda: visible_gpus() or ["cpu"],
    "cores": lambda: ["cpu"] * usable_cores(),
}


def visible_gpus() -> list[str]:
    """``cuda:0``, ``cuda:1``, ... of this process, or none."""
    import torch

    return [f"cuda:{index}" for index in range(torch.cuda.device_count())]


def resolve_device(name: str, key: str = "device") -> str:
    """Name of a device that exists; ``auto`` is the first visible GPU, else the CPU.

    Raises:
        UserError: the device, which ``key`` names, is not on this machine.
    """
    gpus = visible_gpus()
    if name == "auto":
        return gpus[0] if gpus else "cpu"
    if name == "cuda" and gpus:
        return gpus[0]
    if name not in ("cpu", *gpus):
        known = [*SEVERAL, "cpu", *gpus] if key == "devices" else ["auto", "cpu", *gpus]
        raise UserError(f"{key}: '{name}' is not on this machine; choose from {', '.join(known)}")
    return name


def expand_devices(devices: Sequence[str]) -> list[str]:
    """``devices`` with others in place of two names; not checked.

    ``auto`` stands for every visible GPU, or for the CPU where there is none; ``cores`` for the CPU once per core.
    """
    return [name for device in devices for name in (SEVERAL[device]() if device in SEVERAL else [device])]


def usable_cores() -> int:
    """CPU cores that this process may use: of the machine, or those that a batch system has given it."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def device_model(name: str) -> str:
    """Model of the device ``name``, for example ``NVIDIA H100 80GB HBM3``; of a CPU what the system says of it."""
    if name.startswith("cuda"):
        import torch

        return torch.cuda.get_device_name(name)
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def cpu_maker() -> str:
    """Who made the processor, for example ``GenuineIntel`` or ``AuthenticAMD``, as far as the system says."""
    return _cpuinfo("vendor_id") or platform.processor() or platform.machine()


def cpu_flags() -> set[str]:
    """Sets of instructions that the processor has, for example ``avx2``, as far as Linux says."""
    return set(_cpuinfo("flags").split())


def _cpuinfo(field: str) -> str:
    """What Linux says of the first processor, or nothing."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except FileNotFoundError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(field)), "")
