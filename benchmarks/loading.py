"""Peak memory of loading a dataset, as a multiple of its size: ``python -m benchmarks.loading`` (Linux)."""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

GIB = 2**30
LIMIT = 2.5
_SHAPE = (101, 10)  # timesteps, quantities
_SCALINGS = ((True, "minmax"), (True, "standardise"), (False, "standardise"))


@dataclass(frozen=True)
class Loading:
    """What one fresh process needed to load one dataset."""

    dtype: str
    log10_transform: bool
    normalise: str
    size: int  # bytes of the dataset
    imported: int  # bytes of resident memory after the imports
    peak: int  # most bytes of resident memory, imports included
    seconds: float

    @property
    def ratio(self) -> float:
        """Peak as a multiple of the dataset's size."""
        return self.peak / self.size


def measure(
    size: int = GIB, dtype: str = "float32", log10_transform: bool = True, normalise: str = "minmax"
) -> Loading:
    """Write a dataset of ``size`` bytes to a temporary folder and load it in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "dataset.h5"
        written = _write(path, size, dtype)
        arguments = [str(path), json.dumps(log10_transform), normalise]
        command = [sys.executable, "-c", "from benchmarks import loading; loading.load()", *arguments]
        root = Path(__file__).parent.parent
        output = subprocess.run(command, cwd=root, check=True, stdout=subprocess.PIPE, text=True).stdout
    return Loading(dtype, log10_transform, normalise, written, **json.loads(output))


def load() -> None:
    """What the measured process runs: load the file in ``sys.argv`` and print memory and time as JSON."""
    from codes.data import load_data
    from codes.schema import DatasetConfig

    path, log10_transform, normalise = sys.argv[1:]
    config = DatasetConfig(
        source="file",
        path=path,
        log10_transform=json.loads(log10_transform),
        log10_transform_params=False,
        normalise=normalise,  # type: ignore[arg-type]  # one of the three, see _SCALINGS
        normalise_per_quantity=True,
        time_scale="index",
    )
    imported, start = _memory("VmRSS"), time.perf_counter()
    data = load_data(config)
    assert len(data.train) > 0
    print(json.dumps({"imported": imported, "peak": _memory("VmHWM"), "seconds": time.perf_counter() - start}))


def _memory(key: str) -> int:
    """Bytes from the kernel's account of this process: ``VmRSS`` now, ``VmHWM`` at its highest."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"no {key} in /proc/self/status")


def _write(path: Path, size: int, dtype: str) -> int:
    """Positive random trajectories, 70 % train, 15 % test, 15 % val, written in pieces; returns their bytes."""
    rng = np.random.default_rng(0)
    row = int(np.prod(_SHAPE)) * np.dtype(dtype).itemsize
    total = size // row
    rows = {"train": total - 2 * (total * 15 // 100), "test": total * 15 // 100, "val": total * 15 // 100}
    with h5py.File(path, "w") as file:
        for split, n in rows.items():
            array = file.create_dataset(split, (n, *_SHAPE), dtype)
            for start in range(0, n, 4096):
                piece = (min(4096, n - start), *_SHAPE)
                array[start : start + piece[0]] = rng.uniform(1e-3, 1e3, piece)
    return total * row


def main() -> None:
    """Print a table over dtypes and scalings; exit code 1 if a ratio is above the limit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=float, default=1.0, help="size of the dataset in GiB (default 1)")
    size = int(parser.parse_args().size * GIB)
    print(f"{'dtype':8} {'log10':6} {'normalise':12} {'GiB':>6} {'imports':>8} {'peak':>6} {'ratio':>6} {'seconds':>8}")
    ratios = []
    for dtype in ("float32", "float64"):
        for log10_transform, normalise in _SCALINGS:
            result = measure(size, dtype, log10_transform, normalise)
            sizes = [f"{n / GIB:{width}.2f}" for n, width in ((result.size, 6), (result.imported, 8), (result.peak, 6))]
            row = [f"{dtype:8}", f"{log10_transform!s:6}", f"{normalise:12}", *sizes]
            print(*row, f"{result.ratio:6.2f}", f"{result.seconds:8.1f}", flush=True)
            ratios.append(result.ratio)
    print(f"largest ratio {max(ratios):.2f}, limit {LIMIT}")
    sys.exit(max(ratios) > LIMIT)


if __name__ == "__main__":
    main()
