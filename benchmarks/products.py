"""Products of a linear layer by MKL and by oneDNN, on one core: ``python -m benchmarks.products``.

Gflop per CPU second of the layer and its gradients; the two take turns. Says whether ``codes.surrogates.products``
chooses well on this processor.
"""

import statistics
from time import process_time
from typing import Any

import torch

from benchmarks.record import keep
from codes.device import device_model
from codes.surrogates import products

SHAPES = [(1024, 150, 150), (1024, 100, 100), (6464, 32, 32), (6464, 5, 32), (8960, 64, 64)]  # rows, in, out


def compare(rows: int, n_in: int, n_out: int, repeats: int = 15, calls: int = 50) -> dict[str, Any]:
    """Both speeds for one shape."""
    layer, x = products.Linear(n_in, n_out), torch.randn(rows, n_in, requires_grad=True)
    tensors, gradient = [x, *layer.parameters()], torch.randn(rows, n_out)
    seconds: dict[str, list[float]] = {"mkl": [], "onednn": []}
    chosen = "onednn" if products.is_large(x, layer.weight) else "mkl"
    before = products.MKL_IS_SLOW, products.FEWEST, products.SHORTEST
    for _ in range(repeats):
        for name, of in seconds.items():
            products.MKL_IS_SLOW, products.FEWEST, products.SHORTEST = name == "onednn", 0, 0
            start = process_time()
            for _ in range(calls):
                torch.autograd.grad(layer(x), tensors, gradient)
            of.append((process_time() - start) / calls)
    products.MKL_IS_SLOW, products.FEWEST, products.SHORTEST = before
    speeds = {name: 6e-9 * rows * n_in * n_out / statistics.median(of) for name, of in seconds.items()}
    return {"rows": rows, "in": n_in, "out": n_out, **speeds, "chosen": chosen}


def main() -> None:
    """Print a table, write one JSON file."""
    torch.set_num_threads(1)
    print(device_model("cpu"))
    print("rows x in x out      MKL  oneDNN  chosen  (Gflop/s)")
    found = [compare(*shape) for shape in SHAPES]
    for row in found:
        name = f"{row['rows']} x {row['in']} x {row['out']}"
        print(f"{name:<16}{row['mkl']:>8.0f}{row['onednn']:>8.0f}  {row['chosen']}")
    keep("products", products=found)


if __name__ == "__main__":
    main()
