"""A trained surrogate in a folder: ``model.safetensors`` and ``config.yaml``, no pickle."""

import hashlib
import platform
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
import yaml
from safetensors import SafetensorError
from torch import Tensor

from codes import surrogates
from codes.data import PreparedData, Transform
from codes.data.dataset import numbered
from codes.data.scaling import Scaling
from codes.data.transform import TIME_SCALES
from codes.errors import UserError
from codes.files import write_atomically
from codes.schema import SURROGATE_SCHEMAS, DataSpec, TrainConfig
from codes.surrogates.base import Surrogate
from codes.training.seen import Seen
from codes.versions import version_of

WEIGHTS, CONFIG = "model.safetensors", "config.yaml"
FORMAT = 4
KEYS = ("format", "surrogate", "spec", "labels", "unit", "transform", "training", "versions", "sha256")
KEYS_OF = {1: KEYS, 2: (*KEYS, "seen"), 3: (*KEYS, "seen"), FORMAT: (*KEYS, "seen", "parameter_labels")}  # by format


@dataclass(frozen=True, eq=False)
class Artifact:
    """What the folder of a trained surrogate holds; ``seen`` is None if it was written before ranges were kept."""

    model: Surrogate
    transform: Transform
    labels: tuple[str, ...]
    parameter_labels: tuple[str, ...]
    seen: Seen | None


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
        "parameter_labels": list(data.parameter_labels),
        "unit": data.transform.unit,
        "transform": data.transform.to_dict(),
        "seen": Seen.of(data).to_dict(),
        "training": {"dataset": asdict(config.dataset), "trainer": asdict(config.trainer), "seed": config.seed},
        "versions": {
            "codes": version_of("codes"),
            "torch": str(torch.__version__),
            "python": platform.python_version(),
        },
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    write_atomically(folder / WEIGHTS, content)
    write_atomically(folder / CONFIG, yaml.safe_dump(described, sort_keys=False, default_flow_style=None, width=120))
    return folder


def read_artifact(folder: Path) -> Artifact:
    """What the two files of ``folder`` hold, on the CPU.

    Both hold plain data: nothing in them is executed, and the class of the surrogate comes from the registry alone.

    Raises:
        UserError: a file is missing or damaged, or something in it does not belong there.
    """
    path = folder / CONFIG
    described = _read_config(path)
    try:
        model = _build(path, described["surrogate"], described["spec"])
        transform = Transform.from_dict(described["transform"])
        seen = Seen.from_dict(described["seen"], model.spec) if "seen" in described else None
    except (AttributeError, KeyError, OverflowError, RuntimeError, TypeError, ValueError) as error:
        raise UserError(
            f"{path}: spec, transform or seen is not as train.py wrote it ({error}); copy the file again"
        ) from error
    if transform.to_dict() != described["transform"] or not _fits(transform, model.spec):
        raise UserError(f"{path}: transform has values that do not belong there; copy the file again")
    spec = model.spec
    labels = _labels(path, "labels", described["labels"], spec.n_quantities)
    unnamed = list(numbered("p", spec.n_parameters))
    parameter_labels = _labels(path, "parameter_labels", described.get("parameter_labels", unnamed), spec.n_parameters)
    try:
        model.load_state_dict(_read_weights(folder / WEIGHTS, described["sha256"]), assign=True)
    except RuntimeError as error:
        raise UserError(f"{folder / WEIGHTS} does not fit the surrogate of {path}: {error}") from error
    return Artifact(model.float(), transform, labels, parameter_labels, seen)


def _labels(path: Path, key: str, labels: Any, count: int) -> tuple[str, ...]:
    if not isinstance(labels, list) or [type(label) for label in labels] != [str] * count:
        raise UserError(f"{path}: {key} must be {count} names but are {labels!r}")
    return tuple(labels)


def _read_config(path: Path) -> dict[str, Any]:
    try:
        described = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(
            f"{path} does not exist; give a folder with {WEIGHTS} and {CONFIG}, as train.py writes it"
        ) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is not a YAML file: {error}") from error
    version = described.get("format", FORMAT) if isinstance(described, Mapping) else FORMAT
    if version not in tuple(KEYS_OF):
        raise UserError(
            f"{path}: format must be one of {', '.join(map(str, KEYS_OF))} for this version but got {version}"
        )
    _check_keys(path, "", described, KEYS_OF[version])
    surrogate = described["surrogate"]
    if version < 3 and isinstance(surrogate, Mapping) and surrogate.get("name") == "LatentPoly":
        surrogate = {"basis": "chebyshev", **surrogate}  # there was no other
    return {**described, "surrogate": surrogate}


def _build(path: Path, surrogate: Any, spec: Any) -> Surrogate:
    """The surrogate, its weights not yet there: takes neither memory nor random numbers."""
    name = surrogate.get("name") if isinstance(surrogate, Mapping) else None
    if name not in SURROGATE_SCHEMAS:
        raise UserError(f"{path}: surrogate '{name}' is unknown; choose from {', '.join(SURROGATE_SCHEMAS)}")
    schema = SURROGATE_SCHEMAS[name]
    _check_keys(path, "surrogate.", surrogate, [field.name for field in fields(schema)])
    _check_keys(path, "spec.", spec, [field.name for field in fields(DataSpec)])
    for key, least in (("n_quantities", 1), ("n_parameters", 0), ("n_timesteps", 2)):
        if type(spec[key]) is not int or spec[key] < least:
            raise UserError(f"{path}: spec.{key} must be an integer of at least {least} but is {spec[key]!r}")
    try:
        with torch.device("meta"):
            return surrogates.build(schema(**surrogate), DataSpec(**spec))
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def _fits(transform: Transform, spec: DataSpec) -> bool:
    """Whether the statistics are numbers that a dataset of these shapes can have."""
    t, parameters = transform.timesteps, transform.parameters
    return (
        _fits_columns(transform.quantities, spec.n_quantities)
        and (parameters is None) == (spec.n_parameters == 0)
        and (parameters is None or _fits_columns(parameters, spec.n_parameters))
        and t.shape == (spec.n_timesteps,)
        and bool(t.isfinite().all() and (t.diff() > 0).all())
        and transform.time_scale in TIME_SCALES
    )


def _fits_columns(scaling: Scaling, n_columns: int) -> bool:
    floor = scaling.floor
    return (
        scaling.offset.shape == scaling.scale.shape == (n_columns,)
        and bool(scaling.offset.isfinite().all() and scaling.scale.isfinite().all() and (scaling.scale > 0).all())
        and isinstance(scaling.log10, bool)
        and (floor is None or (isinstance(floor, int | float) and floor > 0))
    )


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
