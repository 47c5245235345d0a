"""State of an unfinished training in one file, no pickle: tensors by safetensors, the rest as JSON in its header."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from codes.errors import UserError
from codes.files import write_atomically
from codes.schema import TrainConfig

CHECKPOINT = "checkpoint.safetensors"
TENSOR = "__tensor__"
# What may differ between the training that was killed and the one that continues it: none of it is part of the result.
# Data are known by their fingerprint, wherever they lie.
FREE = {
    "dataset.path",
    "dataset.data_dir",
    "dataset.n_parameters",
    "trainer.resume",
    "trainer.checkpoint_every",
    "trainer.check_memory",
    "trainer.latency_repeats",
    "trainer.threads",
}


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write ``state``, a tree of dictionaries (string keys), lists, plain values and tensors, in one atomic rename."""
    tensors: dict[str, Tensor] = {}
    plain = json.dumps(_take_tensors(state, "", tensors))
    write_atomically(path, safetensors.torch.save(tensors, metadata={"state": plain}))


def load_checkpoint(path: Path) -> dict[str, Any]:
    """The tree that ``save_checkpoint`` wrote, on the CPU."""
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dictionary
            plain = json.loads(file.metadata()["state"])
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path} is not a checkpoint of this program ({error}); delete it, or set trainer.resume=false"
        ) from error
    return _put_tensors(plain, tensors)


def _take_tensors(node: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    if isinstance(node, Tensor):
        tensors[path] = node.detach().cpu().clone()
        return {TENSOR: path}
    if isinstance(node, dict):
        return {key: _take_tensors(value, f"{path}/{key}", tensors) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return [_take_tensors(value, f"{path}/{index}", tensors) for index, value in enumerate(node)]
    return node


def _put_tensors(node: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(node, dict):
        if TENSOR in node:
            return tensors[node[TENSOR]]
        return {key: _put_tensors(value, tensors) for key, value in node.items()}
    if isinstance(node, list):
        return [_put_tensors(value, tensors) for value in node]
    return node


def determining(config: TrainConfig) -> dict[str, Any]:
    """The values that determine a training's result, by dotted key."""
    return {key: value for key, value in by_key(config).items() if key not in FREE}


def by_key(config: TrainConfig) -> dict[str, Any]:
    """All values of ``config`` but the device, by dotted key."""
    groups = ("dataset", "surrogate", "trainer", "objective")
    values = {f"{group}.{key}": value for group in groups for key, value in asdict(getattr(config, group)).items()}
    return {**values, "seed": config.seed}


def check_same_training(path: Path, old: dict[str, Any], new: dict[str, Any]) -> None:
    """Refuse to continue a training under another configuration."""
    changed = [f"{key} (was {old.get(key)}, is {new.get(key)})" for key in old | new if old.get(key) != new.get(key)]
    if changed:
        raise UserError(
            f"trainer.resume=true: {path} belongs to a training with other values of {', '.join(changed)}; "
            "restore them, or start anew with trainer.resume=false"
        )
