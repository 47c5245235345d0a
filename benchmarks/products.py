"""Products of a linear layer by MKL and by oneDNN, on one core: ``python -m benchmarks.products``.

Gflop per CPU second of the layer and its gradients; the two take turns. Says whether ``codes.surrogates.onednn``
chooses well on this processor.
"""

import json
import os
import statistics
from collections.abc import Callable
from datetime import date
from pathlib import Path
from time import process_time
from typing import Any

import torch
from torch.nn.functional import linear

from codes.device import device_model
from codes.surrogates.onednn import MKL_IS_SLOW, _OneDNN

RESULTS = Path(__file__).parent / "results"
SHAPES = [(1024, 150, 150), (1024, 100, 100), (6464, 32, 32), (6464, 5, 32), (8960, 64, 64)]  # rows, in, out


def compare(rows: int, n_in: int, n_out: int, repeats: int = 15, calls: int = 50) -> dict[str, Any]:
    """Both speeds for one shape."""
    tensors = [torch.randn(shape, requires_grad=True) for shape in ((rows, n_in), (n_out, n_in), (n_out,))]
    gradient = torch.randn(rows, n_out)
    ways: dict[str, Callable[..., Any]] = {"mkl": linear, "onednn": _OneDNN.apply}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            start = process_time()
            for _ in range(calls):
                torch.autograd.grad(way(*tensors), tensors, gradient)
            seconds[name].append((process_time() - start) / calls)
    speeds = {name: 6e-9 * rows * n_in * n_out / statistics.median(of) for name, of in seconds.items()}
    return {"rows": rows, "in": n_in, "out": n_out, **speeds}


def main() -> None:
    """Print a table, write one JSON file."""
    torch.set_num_threads(1)
    processor = device_model("cpu")
    print(f"{processor}: multiplied by {'oneDNN' if MKL_IS_SLOW else 'MKL'}")
    print("rows x in x out      MKL  oneDNN  (Gflop/s)")
    found = [compare(*shape) for shape in SHAPES]
    for row in found:
        name = f"{row['rows']} x {row['in']} x {row['out']}"
        print(f"{name:<16}{row['mkl']:>8.0f}{row['onednn']:>8.0f}")
    content = {"date": date.today().isoformat(), "machine": processor, "load": os.getloadavg(), "products": found}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "products.json").write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
