"""Four trials in CPU seconds, ours against plain ones: ``python -m benchmarks.steps``.

One trial per surrogate on the workload of ``benchmarks.workload`` (500 trajectories of 101 times and 5 quantities), on
one core, with ReLU and AdamW at 1e-3, down to 1 % by a cosine, with the architectures and budgets of ``TRIALS``; from
the config to the last evaluation. ``plain`` is ``benchmarks.plain``: the same number of epochs over the same rows. Each
training has a process of its own, which has done its first steps before the clock starts. The ways take turns; repeat
``i`` has seed 42 + ``i``.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from time import process_time
from typing import Any

from tqdm import tqdm

from benchmarks.record import keep
from benchmarks.workload import compose_config, linear_reactions

SHARED = ["surrogate.activation=ReLU", "trainer.evaluate_every=10", "trainer.threads=1"]
CODER = ["trainer.batch_size=64", "surrogate.latent_features=5", "surrogate.coder_layers=3"]
DERIVATIVES = ["surrogate.derivative_weight=1", "surrogate.curvature_weight=1"]
TRIALS = {
    "FullyConnected": ["surrogate.num_hidden_layers=5", "surrogate.hidden_size=150", "trainer.epochs=10"],
    "MultiONet": [
        *("surrogate.branch_hidden_layers=5", "surrogate.trunk_hidden_layers=5", "surrogate.hidden_size=100"),
        *("surrogate.output_factor=10", "trainer.epochs=10"),
    ],
    "LatentPoly": [
        *(*CODER, *DERIVATIVES, "surrogate.degree=2", "surrogate.basis=powers", "surrogate.coder_width=32"),
        "trainer.epochs=50",
    ],
    "LatentNeuralODE": [
        *(*CODER, *DERIVATIVES, "surrogate.coder_width=64", "surrogate.ode_layers=4", "surrogate.ode_width=64"),
        *("surrogate.rtol=1e-6", "surrogate.atol=1e-6", "trainer.epochs=10"),
    ],
}
TARGETS = {"FullyConnected": 0.8, "MultiONet": 0.3, "LatentPoly": 0.5, "LatentNeuralODE": 0.4}


def run(way: str, surrogate: str, seed: int, *overrides: str) -> dict[str, float]:
    """CPU seconds and LAE99 of one trial, in this process."""
    import torch

    from benchmarks import plain
    from codes.training import train, warm_up

    config = compose_config(surrogate, *SHARED, *TRIALS[surrogate], f"seed={seed}", *overrides)
    data = linear_reactions(config.dataset)
    torch.set_num_threads(1)
    plain.warm_up() if way == "plain" else warm_up()
    start = process_time()
    if way == "plain":
        lae99 = plain.train(config, data)
        return {"seconds": process_time() - start, "lae99": lae99}
    ends: list[float] = []
    result = train(config, data, "cpu", lambda *_: ends.append(process_time()), progress=False)
    return {"seconds": ends[-1] - start, "lae99": result.history[-1]["lae99"]}


def run_apart(*arguments: str) -> dict[str, float]:
    """``run`` in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.steps", "--run", *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout)


def compare(surrogate: str, repeats: int) -> dict[str, Any]:
    """Both ways of one surrogate."""
    runs: dict[str, list[dict[str, float]]] = {"plain": [], "ours": []}
    for repeat in tqdm(range(repeats), desc=surrogate, leave=False, disable=None):
        for way in list(runs) if repeat % 2 == 0 else list(runs)[::-1]:
            runs[way].append(run_apart(way, surrogate, str(42 + repeat)))
    medians = {f"{way} {key}": statistics.median(run[key] for run in of) for way, of in runs.items() for key in of[0]}
    ratio = medians["ours seconds"] / medians["plain seconds"]
    return {"surrogate": surrogate, **medians, "ratio": ratio, "runs": runs}


def show(rows: list[dict[str, Any]]) -> None:
    """Print one table."""
    print(f"{'CPU seconds of a trial':<24}   plain    ours   ratio  target   LAE99: plain    ours")
    for row in rows:
        print(
            f"{row['surrogate']:<24}{row['plain seconds']:>8.2f}{row['ours seconds']:>8.2f}{row['ratio']:>8.2f}"
            f"{TARGETS[row['surrogate']]:>8.1f}{row['plain lae99']:>15.4f}{row['ours lae99']:>8.4f}"
        )


def main() -> None:
    """Run what the arguments ask for, print a table, write one JSON file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.steps", description=__doc__.splitlines()[0])
    parser.add_argument("--surrogates", nargs="*", default=list(TRIALS), choices=list(TRIALS))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--run", nargs="+", metavar="WAY SURROGATE SEED OVERRIDE", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        way, surrogate, seed, *overrides = arguments.run
        print(json.dumps(run(way, surrogate, int(seed), *overrides)))
        return
    rows = [compare(name, arguments.repeats) for name in arguments.surrogates]
    show(rows)
    keep("steps", trials=rows)


if __name__ == "__main__":
    main()
