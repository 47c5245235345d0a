"""Names of devices, checked against this machine. PyTorch is imported only when asked."""

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
