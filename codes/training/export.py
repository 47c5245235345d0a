"""A saved surrogate as one file for simulation codes, checked against the original by running that file."""

import hashlib
import importlib.util
import itertools
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from torch import Tensor, nn

from codes.data import Transform
from codes.errors import UserError
from codes.surrogates import LatentNeuralODE, SolverFailure, Surrogate
from codes.training.artifact import WEIGHTS
from codes.training.predictor import Predictor, load

ALLOWED = 1e-5  # difference from the original, see `check`
SIZES = tuple(itertools.product((1, 3, 200), (1, 2, 50)))  # trajectories, times: of what is compared
EXPORTS = "2.12"  # the PyTorch from which on each family goes into its formats; into torch_export from 2.10 on
DESCRIPTION = "codes.yaml"  # name of the description in a torch_export file, key of it in an ONNX file
Arrays = Mapping[str, NDArray[np.float64]]
Run = Callable[[Arrays], NDArray[np.float64]]


class Physical(nn.Module):
    """Transform, surrogate and inverse transform as one function in physical units, float64 in and out."""

    def __init__(self, model: Surrogate, transform: Transform) -> None:
        super().__init__()
        self.model, self.transform = model, transform

    def forward(self, x0: Tensor, t: Tensor, params: Tensor | None = None) -> Tensor:
        """States ``[B, T, Q]`` from ``x0 [B, Q]``, ``t [T]``, ``params [B, P]``; times beyond the grid are its ends."""
        p = None if params is None else self.transform.forward_params(params).float()
        start, times = self.transform.forward(x0).float(), self.transform.scale_times(t).float()
        return self.transform.inverse(self.model(start, times, p).double())


@dataclass(frozen=True)
class Exported:
    """What was written, what it takes by name with its shape, and its largest difference from the original."""

    path: Path
    inputs: Mapping[str, str]
    difference: float


def export(folder: Path, name: str, path: Path | None = None) -> Exported:
    """Write the surrogate in ``folder`` to ``path`` in the format ``name``: the whole way in physical units.

    The file takes float64 ``x0 [B, Q]``, ``t [T]`` and, where the data have parameters, ``params [B, P]``, for any B
    and T, and gives ``[B, T, Q]``, as ``predict`` does, but without its checks: a time beyond the training grid counts
    as its nearest end, what has no logarithm or no solution becomes NaN.

    Raises:
        UserError: the format is unknown or not that of ``path``'s suffix, its packages are missing, the family does not
            go into it, there is a file already, or what was written differs from the original by more than ``ALLOWED``.
            Nothing is left then.
    """
    if name not in FORMATS:
        raise UserError(f"format must be {' or '.join(FORMATS)}, but is {name!r}")
    suffix, packages, write, run = FORMATS[name]
    path = folder / f"model{suffix}" if path is None else path
    if path.suffix != suffix:
        raise UserError(f"file: must end in {suffix} for format={name}, but is {path}")
    if path.exists():
        raise UserError(f"file: {path} exists already; remove it, or give another file=...")
    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    if missing:
        raise UserError(f"format={name} needs {', '.join(missing)}; pip install -e '.[export]'")
    predictor = load(folder)
    if name == "onnx" and isinstance(predictor.model, LatentNeuralODE):
        raise UserError(
            "format=onnx: the steps of LatentNeuralODE depend on how an error is rounded, so that in another runtime "
            f"it ends further than {ALLOWED:g} from the original; take format=torch_export, or another family"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".export.") as beside, _quiet():
        written = Path(beside) / path.name
        try:
            write(_traced(predictor), _description(predictor, folder), written)
        except Exception as error:  # of many kinds, by what it meets in the family
            family, reason = type(predictor.model).__name__, str(error).strip().partition("\n")[0]
            old = torch.__version__ < EXPORTS
            advice = f"; this is PyTorch {torch.__version__}, take {EXPORTS} or newer" if old else ""
            raise UserError(
                f"format={name}: {family} cannot be exported: {reason}; nothing was written{advice}"
            ) from error
        difference = check(predictor, run(written))
        written.rename(path)
    return Exported(path, _shapes(predictor), difference)


def check(predictor: Predictor, run: Run) -> float:
    """Largest difference between ``run`` and ``predictor``, in batches of several sizes from where it was trained.

    Relative, for each quantity: the largest difference of its values over the largest magnitude of them, as the
    surrogate computes them (normalised, of logarithms where the data are), since that is where float32 rounds. The
    magnitude is at least 1, or that of all quantities: a constant is normalised to 0, and predicted as noise around it.

    Raises:
        UserError: it is more than ``ALLOWED``, or the original gives up.
    """
    generator, pairs = np.random.default_rng(0), []
    for n_trajectories, n_times in SIZES:
        inputs = _sample(predictor, n_trajectories, n_times, generator)
        try:
            wanted = predictor.predict(*inputs.values())
        except SolverFailure as error:
            raise UserError(f"the surrogate itself fails where it was trained, nothing was written: {error}") from error
        found = run(inputs)
        if found.shape != wanted.shape:
            raise UserError(f"the exported file gives shape {found.shape} for {wanted.shape}; nothing was written")
        pairs.append([predictor.transform.forward(torch.from_numpy(x)).flatten(0, 1) for x in (found, wanted)])
    found_all, wanted_all = (torch.cat(parts) for parts in zip(*pairs, strict=True))
    magnitude = wanted_all.abs().amax(0)
    magnitude = magnitude.clamp(min=min(1, magnitude.max().item())).clamp(min=torch.finfo(torch.float64).tiny)
    largest = (found_all - wanted_all).abs().amax(0) / magnitude
    worst = largest.max().item()
    if not worst <= ALLOWED:  # nor where one of them is NaN
        raise UserError(
            f"the exported file differs from the original by {worst:.2g} in {predictor.labels[int(largest.argmax())]}, "
            f"more than {ALLOWED:g} (relative, normalised), so nothing was written; take another format"
        )
    return worst


def _sample(
    predictor: Predictor, n: int, n_times: int, generator: np.random.Generator
) -> dict[str, NDArray[np.float64]]:
    """Arguments from the ranges seen in training, uniform as the surrogate sees them."""
    scaling, transform, seen = predictor.transform.quantities, predictor.transform, predictor.seen
    sampled = {"x0": (scaling, None if seen is None else seen.initial_states)}
    if transform.parameters is not None:
        sampled["params"] = (transform.parameters, None if seen is None else seen.parameters)
    values = {}
    for key, (columns, ranges) in sampled.items():
        low, high = (-torch.ones_like(columns.scale), torch.ones_like(columns.scale))
        if ranges is not None:
            low, high = columns.forward(ranges.low), columns.forward(ranges.high)
        share = torch.from_numpy(generator.uniform(size=(n, len(low))))
        values[key] = columns.inverse(low + share * (high - low)).numpy()
    first, last = predictor.timesteps[[0, -1]]
    position = generator.uniform(size=n_times)
    times = np.interp(position, np.linspace(0, 1, len(predictor.timesteps)), predictor.timesteps).clip(first, last)
    return {"x0": values.pop("x0"), "t": times, **values}


def _traced(predictor: Predictor) -> torch.export.ExportedProgram:
    inputs = _sample(predictor, 3, 5, np.random.default_rng(0))
    trajectories, times = torch.export.Dim("B"), torch.export.Dim("T")
    sizes = {name: {0: times if name == "t" else trajectories} for name in inputs}
    tensors = tuple(map(torch.from_numpy, inputs.values()))
    with torch.no_grad():
        whole = Physical(predictor.model, predictor.transform)
        return torch.export.export(whole, tensors, dynamic_shapes=sizes)


def _description(predictor: Predictor, folder: Path) -> str:
    """YAML that goes into the file: what it predicts, from where, and which weights it was made of."""
    described = {
        "surrogate": type(predictor.model).__name__,
        "labels": list(predictor.labels),
        "parameter_labels": list(predictor.parameter_labels),
        "inputs": _shapes(predictor),
        "times": [float(time) for time in predictor.timesteps[[0, -1]]],
        "seen": None if predictor.seen is None else predictor.seen.to_dict(),
        "sha256": hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest(),
        "torch": str(torch.__version__),
    }
    return yaml.safe_dump(described, sort_keys=False, default_flow_style=None, width=120)


def _shapes(predictor: Predictor) -> dict[str, str]:
    spec = predictor.model.spec
    shapes = {"x0": f"[B, {spec.n_quantities}]", "t": "[T]"}
    return {**shapes, "params": f"[B, {spec.n_parameters}]"} if spec.n_parameters else shapes


@contextmanager
def _quiet() -> Iterator[None]:
    """Without PyTorch's talk of packages that play no part here, and of its own old habits."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        logger.setLevel(before)


def _write_torch(program: torch.export.ExportedProgram, description: str, path: Path) -> None:
    torch.export.save(program, path, extra_files={DESCRIPTION: description})


def _run_torch(path: Path) -> Run:
    module = torch.export.load(path).module()
    return lambda inputs: module(*map(torch.from_numpy, inputs.values())).numpy()


def _write_onnx(program: torch.export.ExportedProgram, description: str, path: Path) -> None:
    made: Any = torch.onnx.export(
        program,
        output_names=["x"],
        dynamo=True,
        verbose=False,
        custom_translation_table={torch.ops.aten.searchsorted.Tensor: _searchsorted},
    )
    x0, t, *_ = made.model.graph.inputs
    made.rename_axes({x0.shape[0]: "B", t.shape[0]: "T"})
    made.model.metadata_props[DESCRIPTION] = description
    made.save(path, external_data=False)


def _run_onnx(path: Path) -> Run:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda inputs: session.run(None, dict(inputs))[0]


def _searchsorted(grid: Any, values: Any, **_: Any) -> Any:
    """``torch.searchsorted(grid, values, right=True)``, which ONNX lacks: how many of ``grid`` are at most a value."""
    import onnxscript

    op: Any = onnxscript.opset18
    return op.ReduceSum(op.Cast(op.LessOrEqual(grid, op.Unsqueeze(values, [-1])), to=7), [-1], keepdims=0)  # 7: int64


FORMATS: dict[str, tuple[str, tuple[str, ...], Callable[..., None], Callable[[Path], Run]]] = {
    "torch_export": (".pt2", (), _write_torch, _run_torch),
    "onnx": (".onnx", ("onnx", "onnxscript", "onnxruntime"), _write_onnx, _run_onnx),
}
