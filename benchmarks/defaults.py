"""Batch size and learning rate at equal CPU time: ``python -m benchmarks.defaults``.

Trainings of a surrogate's default network on a generated dataset, each of about ``--seconds`` CPU seconds on one core:
three epochs say how long one takes, and the training then has as many as fit, at least four. Its learning rate goes
down by a cosine over just these. Best LAE99 on ``test`` of ten evaluations.

Each training adds a line to ``benchmarks/results/defaults.jsonl``; the table is made of all lines of that file.
"""

import argparse
import json
from collections.abc import Iterable
from itertools import product
from time import process_time
from typing import Any

import torch
from hydra import compose, initialize_config_dir

from benchmarks.record import RESULTS, circumstances
from benchmarks.workload import CONF
from codes.data import PreparedData, load_data
from codes.schema import SURROGATE_SCHEMAS, TrainConfig
from codes.training import TrainResult, train, warm_up
from train import settings

FILE = RESULTS / "defaults.jsonl"
PROBE = 3  # epochs


def compose_training(dataset: str, surrogate: str, *overrides: str) -> TrainConfig:
    """A config of ``train.py``."""
    fixed = [f"dataset={dataset}", f"surrogate={surrogate}", "optimal=off", "trainer.checkpoint_every=0"]
    with initialize_config_dir(str(CONF)):
        return settings(compose("train", [*fixed, "trainer.latency_repeats=1", *overrides]))


def timed(config: TrainConfig, data: PreparedData) -> tuple[TrainResult, float]:
    """A training and its CPU seconds."""
    start = process_time()
    result = train(config, data, "cpu", progress=False)
    return result, process_time() - start


def measure(
    dataset: str, surrogate: str, seed: int, seconds: float, batch_size: int, learning_rate: float
) -> dict[str, Any]:
    """One training of about ``seconds`` CPU seconds."""
    tried = [f"trainer.batch_size={batch_size}", f"surrogate.learning_rate={learning_rate}", f"seed={seed}"]
    probe = compose_training(dataset, surrogate, *tried, f"trainer.epochs={PROBE}", f"trainer.evaluate_every={PROBE}")
    data = load_data(probe.dataset)
    train(probe, data, "cpu", progress=False)  # the first one is slower
    _, took = timed(probe, data)
    epochs = max(int(seconds / (took / PROBE)), 4)
    length = [f"trainer.epochs={epochs}", f"trainer.evaluate_every={max(epochs // 10, 1)}"]
    result, took = timed(compose_training(dataset, surrogate, *tried, *length), data)
    return {
        "dataset": dataset,
        "surrogate": surrogate,
        "seed": seed,
        "budget": seconds,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "epochs": epochs,
        "seconds": round(took, 1),
        "lae99": min(row["lae99"] for row in result.history),
    }


def show(lines: Iterable[dict[str, Any]]) -> None:
    """Print all lines, those that can be compared together."""
    print("dataset              surrogate        budget  batch    rate  epochs  CPU s   LAE99")
    for line in sorted(lines, key=lambda line: (line["surrogate"], line["dataset"], line["budget"], -line["lae99"])):
        print(
            f"{line['dataset']:<20} {line['surrogate']:<16}{line['budget']:>7g}{line['batch_size']:>7}"
            f"{line['learning_rate']:>8g}{line['epochs']:>8}{line['seconds']:>7}{line['lae99']:>8.4f}"
        )


def main() -> None:
    """Measure what the arguments ask for, then print a table of all that was ever measured."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.defaults", description=__doc__.splitlines()[0])
    parser.add_argument("--datasets", nargs="*", default=["robertson", "lotka_volterra"])
    parser.add_argument("--surrogates", nargs="*", default=list(SURROGATE_SCHEMAS), choices=list(SURROGATE_SCHEMAS))
    parser.add_argument("--batch-sizes", nargs="*", type=int, default=[256, 1024], help="rows, or trajectories")
    parser.add_argument("--learning-rates", nargs="*", type=float, default=[1e-3, 3e-3])
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warm_up()
    for dataset, surrogate, size, rate in product(
        arguments.datasets, arguments.surrogates, arguments.batch_sizes, arguments.learning_rates
    ):
        line = measure(dataset, surrogate, arguments.seed, arguments.seconds, size, rate)
        with FILE.open("a") as file:
            file.write(json.dumps({**line, **circumstances()}) + "\n")
    show(map(json.loads, FILE.read_text().splitlines()))


if __name__ == "__main__":
    main()
