"""A trained surrogate in a folder: ``model.safetensors`` and ``config.yaml``, no pickle."""

import hashlib
import platform
from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields
from importlib import metadata
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
import yaml
from safetensors import SafetensorError
from torch import Tensor

from codes import surrogates
from codes.data import PreparedData, Transform
from codes.errors import UserError
from codes.files import write_atomically
from codes.schema import SURROGATE_SCHEMAS, DataSpec, TrainConfig
from codes.surrogates.base import Surrogate

WEIGHTS, CONFIG = "model.safetensors", "config.yaml"
FORMAT = 1
KEYS = ("format", "surrogate", "spec", "labels", "unit", "transform", "training", "versions", "sha256")


def save_artifact(folder: Path, model: Surrogate, config: TrainConfig, data: PreparedData) -> Path:
    """Write ``model`` and everything that ``codes.load`` needs to predict in physical units into ``folder``.

    Both files are renamed into place; ``config.yaml`` comes last and holds the checksum of the weights, so that a kill
    between the two cannot leave a pair that loads and is wrong.
    """
    content = safetensors.torch.save({name: value.cpu().clone() for name, value in model.state_dict().items()})
    described = {
        "format": FORMAT,
        "surrogate": asdict(model.config),
        "spec": asdict(model.spec),
        "labels": list(data.labels),
        "unit": data.transform.unit,
        "transform": data.transform.to_dict(),
        "training": {"dataset": asdict(config.dataset), "trainer": asdict(config.trainer), "seed": config.seed},
        "versions": {"codes": _version(), "torch": str(torch.__version__), "python": platform.python_version()},
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    write_atomically(folder / WEIGHTS, content)
    write_atomically(folder / CONFIG, yaml.safe_dump(described, sort_keys=False, default_flow_style=None, width=120))
    return folder


def _version() -> str:
    try:
        return metadata.version("codes")
    except metadata.PackageNotFoundError:
        return "not installed"


def read_artifact(folder: Path) -> tuple[Surrogate, Transform, tuple[str, ...]]:
    """Surrogate, transform and labels from the two files of ``folder``, on the CPU.

    Both hold plain data: nothing in them is executed, and the class of the surrogate comes from the registry alone.

    Raises:
        UserError: a file is missing or damaged, or something in it does not belong there.
    """
    path = folder / CONFIG
    described = _read_config(path)
    try:
        model = _build(path, described["surrogate"], described["spec"])
        transform = Transform.from_dict(described["transform"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path}: spec or transform is not as train.py wrote it ({error}); copy the file again"
        ) from error
    if transform.to_dict() != described["transform"]:
        raise UserError(f"{path}: transform has values that do not belong there; copy the file again")
    try:
        model.load_state_dict(_read_weights(folder / WEIGHTS, described["sha256"]))
    except RuntimeError as error:
        raise UserError(f"{folder / WEIGHTS} does not fit the surrogate of {path}: {error}") from error
    return model, transform, tuple(described["labels"])


def _read_config(path: Path) -> dict[str, Any]:
    try:
        described = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(
            f"{path} does not exist; give a folder with {WEIGHTS} and {CONFIG}, as train.py writes it"
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not a YAML file: {error}") from error
    _check_keys(path, "", described, KEYS)
    if described["format"] != FORMAT:
        raise UserError(f"{path}: format must be {FORMAT} for this version but got {described['format']}")
    return dict(described)


def _build(path: Path, surrogate: Any, spec: Any) -> Surrogate:
    name = surrogate.get("name") if isinstance(surrogate, Mapping) else None
    if name not in SURROGATE_SCHEMAS:
        raise UserError(f"{path}: surrogate '{name}' is unknown; choose from {', '.join(SURROGATE_SCHEMAS)}")
    schema = SURROGATE_SCHEMAS[name]
    _check_keys(path, "surrogate.", surrogate, [field.name for field in fields(schema)])
    _check_keys(path, "spec.", spec, [field.name for field in fields(DataSpec)])
    try:
        return surrogates.build(schema(**surrogate), DataSpec(**spec))
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def _check_keys(path: Path, prefix: str, values: Any, expected: Iterable[str]) -> None:
    """Refuse anything but a mapping with exactly the ``expected`` keys."""
    if not isinstance(values, Mapping) or set(values) != set(expected):
        found = ", ".join(map(str, values)) if isinstance(values, Mapping) else repr(values)
        raise UserError(f"{path}: the keys must be {', '.join(prefix + key for key in expected)} but are {found}")


def _read_weights(path: Path, sha256: str) -> dict[str, Tensor]:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; copy both files of the artifact") from None
    if hashlib.sha256(content).hexdigest() != sha256:
        raise UserError(
            f"{path} is damaged or belongs to another {CONFIG}: its checksum differs; copy both files again"
        )
    try:
        return safetensors.torch.load(content)
    except SafetensorError as error:
        raise UserError(f"{path} is not a safetensors file: {error}") from error
