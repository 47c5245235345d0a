"""Memory of this process: what it has held, what it can still get, and what becomes of what it frees."""

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

UNLIMITED = 2**60  # bytes; cgroups and rlimits write "no limit" as numbers beyond
KEPT_PIECE, KEPT_TOP = 32 * 2**20, 512 * 2**20  # bytes; the first is the most that glibc accepts


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
            with suppress(OSError):  # not every sandbox has it; the peak is then that of the process
                Path("/proc/self/clear_refs").write_text("5")  # proc(5): reset the peak of the resident set

    def read(self) -> int:
        """Bytes so far."""
        if self.on_gpu:
            import torch

            return torch.cuda.max_memory_allocated(self.device)
        if sys.platform == "linux":
            held = _of_table(Path("/proc/self/status"), "VmHWM:")
            if held is not None:
                return held * 1024
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else 1024 * peak


def available(device: str) -> int | None:
    """Bytes that this process can still get on ``device``; None where the system does not say.

    On a GPU what is free there, and what PyTorch holds without using it. On the CPU the least of what the machine has
    without swapping, what each cgroup around this process leaves, and what its own limit of address space leaves.
    """
    if device.startswith("cuda"):
        import torch

        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    if sys.platform != "linux":
        return None
    least = min(_left(), default=None)
    return None if least is None else max(0, least)


def _left() -> Iterator[int]:
    free = _of_table(Path("/proc/meminfo"), "MemAvailable:")
    if free is not None:
        yield free * 1024
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY:
        yield limit - int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    for group in _cgroups():
        yield from _left_in(group)


def _cgroups() -> Iterator[Path]:
    """Folders of the memory controller (of version 1 or 2) for this process's cgroup and those around it.

    In a container, whose own cgroup is the root of what it sees, the path that the kernel tells may not exist; the
    root does.
    """
    kept = Path("/proc/self/cgroup")  # of kernels that have cgroups
    for line in kept.read_text().splitlines() if kept.exists() else ():
        _, controllers, path = line.split(":", 2)
        if controllers in ("", "memory"):
            root = Path("/sys/fs/cgroup", controllers)
            inner = root / path.lstrip("/")
            yield from (folder for folder in (inner, *inner.parents) if folder.is_relative_to(root) and folder.exists())


def _left_in(group: Path) -> Iterator[int]:
    """Its limit less what it uses; the cache of files does not count, the kernel takes it back."""
    for limit, usage, prefix in (
        ("memory.max", "memory.current", ""),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_"),
    ):
        if not (group / limit).exists():
            continue
        text = (group / limit).read_text().strip()
        if text == "max" or int(text) >= UNLIMITED:
            continue
        cache = sum(_of_table(group / "memory.stat", f"{prefix}{kind}_file") or 0 for kind in ("active", "inactive"))
        yield int(text) - int((group / usage).read_text()) + cache


def _of_table(path: Path, name: str) -> int | None:
    """The number behind ``name`` in a file of lines; None where it is not there."""
    found = (line.split()[1] for line in path.read_text().splitlines() if line.split()[:1] == [name])
    return next(map(int, found), None)


def is_out_of_memory(error: Exception) -> bool:
    """Whether memory, of the device or the host, was not enough."""
    torch = sys.modules.get("torch")
    if isinstance(error, MemoryError) or (torch is not None and isinstance(error, torch.OutOfMemoryError)):
        return True
    # the CPU allocator and some CUDA libraries raise a plain RuntimeError
    words = ("can't allocate memory", "out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
    return isinstance(error, RuntimeError) and any(word in str(error) for word in words)


def keep_freed() -> None:
    """Have glibc keep what is freed for what is allocated next.

    By default it returns large pieces to the system at once, and each step of a training faults in all its pages anew.
    ``give_back`` returns them.
    """
    libc = _glibc()
    if libc is not None:
        libc.mallopt(-3, KEPT_PIECE)  # M_MMAP_THRESHOLD
        libc.mallopt(-1, KEPT_TOP)  # M_TRIM_THRESHOLD


def give_back() -> None:
    """Return freed memory to the system, between two trainings."""
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    """The C library, where it is glibc."""
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    return libc if hasattr(libc, "malloc_trim") else None
