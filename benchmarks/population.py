"""Trials together against one by one, on one core: ``OMP_NUM_THREADS=1 python -m benchmarks.population``.

``K`` trainings as one stacked model (``codes.training.train_population``) against the same trainings one after the
other (``codes.training.train``), for several widths and batch sizes (rows for FullyConnected and MultiONet,
trajectories for LatentPoly): from the configs to the last result, evaluations and latency included. A quarter of the
workload of ``benchmarks.workload``, so that it does not take all day: 125 trajectories to train on, 25 to evaluate.

CPU seconds, which bear that the machine does other things too; the ways take turns, each round in the other order.
The ratio is that of the rounds' medians: how many times the trials per hour of one core. ``measured`` is what
``slot.population=auto`` would have seen at the start, in a few steps.

Results of other shapes are kept in the file: run some after the others where time is short.
"""

import argparse
import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace
from time import process_time
from typing import Any

import torch
from tqdm import tqdm

from benchmarks.record import RESULTS, circumstances
from benchmarks.workload import compose_config, linear_reactions
from codes.data import PreparedData, TensorSplit
from codes.schema import TrainConfig
from codes.surrogates import SURROGATES
from codes.training import speed_up, train, train_population, warm_up
from codes.training.batches import plan_blocks

RESULT = RESULTS / "population.json"
FAMILIES: dict[str, Callable[[int], list[str]]] = {
    "FullyConnected": lambda width: ["surrogate.num_hidden_layers=5", f"surrogate.hidden_size={width}"],
    "MultiONet": lambda width: [
        *("surrogate.branch_hidden_layers=5", "surrogate.trunk_hidden_layers=5", "surrogate.output_factor=10"),
        f"surrogate.hidden_size={width}",
    ],
    "LatentPoly": lambda width: [f"surrogate.coder_width={width}"],
}


def part(split: TensorSplit, number: int) -> TensorSplit:
    """The first trajectories of a split."""
    return TensorSplit(split.x[:number].clone(), None)


def trial(family: str, width: int, batch: int, steps: int) -> tuple[TrainConfig, PreparedData]:
    """A training of about ``steps``, with ReLU."""
    shape = [f"trainer.batch_size={batch}", "surrogate.activation=ReLU", *FAMILIES[family](width)]
    config = compose_config(family, "trainer.threads=1", *shape)
    data = linear_reactions(config.dataset)
    data = replace(data, train=part(data.train, 125), test=part(data.test, 25))
    blocks = plan_blocks(SURROGATES[family].pointwise, len(data.train), len(data.t), config.trainer)
    epochs = max(1, round(steps / len(blocks)))
    return replace(config, trainer=replace(config.trainer, epochs=epochs)), data


def one_by_one(configs: Sequence[TrainConfig], data: PreparedData) -> None:
    for config in configs:
        train(config, data, "cpu", progress=False)


def together(configs: Sequence[TrainConfig], data: PreparedData) -> None:
    for _ in train_population(configs, data, "cpu"):
        pass


def compare(family: str, width: int, batch: int, members: int, rounds: int, steps: int) -> dict[str, Any]:
    """Medians of both ways, and their ratio."""
    config, data = trial(family, width, batch, steps)
    configs = [replace(config, seed=seed) for seed in range(members)]
    seconds: dict[str, list[float]] = {"one_by_one": [], "together": []}
    ways = [("one_by_one", one_by_one), ("together", together)]
    for index in range(rounds):
        for name, way in ways[:: 1 if index % 2 else -1]:
            start = process_time()
            way(configs, data)
            seconds[name].append(process_time() - start)
    alone, stacked = (statistics.median(seconds[name]) for name in ("one_by_one", "together"))
    return {
        "family": family,
        "members": members,
        "width": width,
        "batch": batch,
        "epochs": config.trainer.epochs,
        "cpu_seconds": seconds,
        "ratio": alone / stacked,
        "measured": speed_up(config, members, data, "cpu"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--families", nargs="+", default=list(FAMILIES), choices=list(FAMILIES))
    parser.add_argument("--widths", nargs="+", type=int, default=[32, 64, 150])
    parser.add_argument("--batches", nargs="+", type=int, default=[64, 256, 1024])
    parser.add_argument("--members", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=800, help="of a training, about; defaults of train.py: 83,200")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warm_up()
    print(f"{'':<16}{'width':>6}{'batch':>7}{'one by one s':>14}{'together s':>12}{'ratio':>7}{'measured':>10}")
    for family in arguments.families:
        shapes = [(width, batch) for width in arguments.widths for batch in arguments.batches]
        for width, batch in tqdm(shapes, desc=family, leave=False, disable=None):
            row = compare(family, width, batch, arguments.members, arguments.rounds, arguments.steps)
            alone, stacked = (statistics.median(row["cpu_seconds"][name]) for name in ("one_by_one", "together"))
            tqdm.write(
                f"{family:<16}{width:>6}{batch:>7}{alone:>14.2f}{stacked:>12.2f}{row['ratio']:>7.2f}{row['measured']:>10.2f}"
            )
            _keep(row)


def _keep(row: dict[str, Any]) -> None:
    """Write ``row`` in the place of an earlier one of its kind, beside the others."""
    rows = json.loads(RESULT.read_text()) if RESULT.exists() else []
    kind = ("family", "width", "batch", "members")
    others = [other for other in rows if any(other[key] != row[key] for key in kind)]
    row |= circumstances()
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps([*others, row], indent=1) + "\n")


if __name__ == "__main__":
    main()
