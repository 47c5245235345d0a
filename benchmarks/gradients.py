"""What gradients in bfloat16 do to times and errors: ``python -m benchmarks.gradients``.

Trials of ``benchmarks.steps`` with more epochs, with ``trainer.gradients=float32`` and ``auto`` in turns, each in a
process of its own on one core, with the same seeds. Where the processor has no bfloat16 both are the same.
"""

import argparse
import statistics
from typing import Any

from tqdm import tqdm

from benchmarks.record import keep
from benchmarks.steps import run_apart

EPOCHS = {"FullyConnected": 200}
WAYS = ("float32", "auto")


def compare(surrogate: str, epochs: int, seeds: int) -> dict[str, Any]:
    """Both ways with each seed; of times and errors the mean ratio, and its standard error."""
    runs: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    for seed in tqdm(range(42, 42 + seeds), desc=surrogate, leave=False, disable=None):
        for way in WAYS if seed % 2 == 0 else WAYS[::-1]:
            options = (f"trainer.epochs={epochs}", f"trainer.gradients={way}")
            runs[way].append(run_apart("ours", surrogate, str(seed), *options))
    row: dict[str, Any] = {"surrogate": surrogate, "epochs": epochs}
    for key in ("seconds", "lae99"):
        fine, coarse = ([run[key] for run in runs[way]] for way in WAYS)
        ratios = [other / one for one, other in zip(fine, coarse, strict=True)]
        row |= {f"float32 {key}": statistics.median(fine), f"auto {key}": statistics.median(coarse)}
        row |= {f"{key} ratio": statistics.fmean(ratios), f"{key} error": statistics.stdev(ratios) / len(ratios) ** 0.5}
    return {**row, "runs": runs}


def main() -> None:
    """Run what the arguments ask for, print a table, write a JSON file for each surrogate."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gradients", description=__doc__.splitlines()[0])
    parser.add_argument("--surrogates", nargs="*", default=list(EPOCHS), choices=list(EPOCHS))
    parser.add_argument("--seeds", type=int, default=6)
    arguments = parser.parse_args()
    from codes.surrogates.products import HAS_BFLOAT16

    print(f"bfloat16 {'is' if HAS_BFLOAT16 else 'is not'} among this processor's instructions")
    print("                epochs   s: float32    auto  auto / float32   LAE99: float32    auto  auto / float32")
    for name in arguments.surrogates:
        row = compare(name, EPOCHS[name], arguments.seeds)
        seconds = f"{row['float32 seconds']:>10.1f}{row['auto seconds']:>8.1f}{row['seconds ratio']:>9.2f}"
        errors = f"{row['float32 lae99']:>17.4f}{row['auto lae99']:>8.4f}{row['lae99 ratio']:>9.3f}"
        spread = f"{row['lae99 error']:.3f}"
        print(f"{name:<16}{row['epochs']:>6}   {seconds} +- {row['seconds error']:.2f}{errors} +- {spread}", flush=True)
        keep(f"gradients_{name}", has_bfloat16=HAS_BFLOAT16, **row)


if __name__ == "__main__":
    main()
