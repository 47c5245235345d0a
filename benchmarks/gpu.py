"""What a GPU does: ``python -m benchmarks.gpu``.

1. The trials of ``benchmarks.steps``, with more epochs, in wall-clock seconds from the config to the last evaluation:
   ``plain`` is ``benchmarks.plain``; ``eager`` is ours with steps launched kernel by kernel; ``ours`` records them as
   CUDA graphs where that is faster. The ways take turns, repeat ``i`` has seed 42 + ``i``.
2. Steps per second of K stacked trainings against the same one by one, as ``slot.population=auto`` measures them.
3. ``torch.compile`` of the loss of LatentPoly (``--compile``): how long compiling takes, and what a step takes then.
"""

import argparse
import json
import os
import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from tqdm import tqdm

from benchmarks import plain
from benchmarks.population import FAMILIES
from benchmarks.steps import SHARED, TRIALS
from benchmarks.workload import compose_config, linear_reactions
from codes.device import device_model
from codes.schema import TrainConfig
from codes.surrogates import SURROGATES
from codes.training import speed_up, train, warm_up
from codes.training.captured import Step
from codes.training.trainer import Run, seeded

RESULT = Path(__file__).parent / "results" / "gpu.json"
EPOCHS = {"FullyConnected": 20, "MultiONet": 20, "LatentPoly": 100, "LatentNeuralODE": 15}


@contextmanager
def eager(surrogate: str) -> Iterator[None]:
    """Inside, no step is recorded."""
    kind = SURROGATES[surrogate]
    before = kind.capturable
    kind.capturable = False
    try:
        yield
    finally:
        kind.capturable = before


def ours(config: TrainConfig, device: str) -> tuple[float, float]:
    """Seconds and LAE99 of one trial."""
    data, ends = linear_reactions(config.dataset), []
    torch.cuda.synchronize(device)
    start = perf_counter()
    result = train(config, data, device, lambda *_: ends.append(perf_counter()), progress=False)
    return ends[-1] - start, result.history[-1]["lae99"]


def not_recorded(config: TrainConfig, device: str) -> tuple[float, float]:
    with eager(config.surrogate.name):
        return ours(config, device)


def written_plainly(config: TrainConfig, device: str) -> tuple[float, float]:
    data = linear_reactions(config.dataset)
    torch.cuda.synchronize(device)
    start = perf_counter()
    lae99 = plain.train(config, data, device)
    return perf_counter() - start, lae99


WAYS: dict[str, Callable[[TrainConfig, str], tuple[float, float]]] = {
    "plain": written_plainly,
    "eager": not_recorded,
    "ours": ours,
}


def trials(surrogate: str, ways: list[str], repeats: int, device: str) -> dict[str, Any]:
    """Median seconds and errors of each way."""
    runs: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
    for repeat in range(-1, repeats):  # the first one is not counted: libraries load
        epochs = EPOCHS[surrogate] if repeat >= 0 else 1
        config = compose_config(
            surrogate, *SHARED, *TRIALS[surrogate], f"seed={42 + repeat}", f"trainer.epochs={epochs}"
        )
        for way in ways[:: 1 if repeat % 2 else -1]:
            found = WAYS[way](config, device)
            if repeat >= 0:
                runs[way].append(found)
    medians = {way: [statistics.median(column) for column in zip(*of, strict=True)] for way, of in runs.items()}
    return {"surrogate": surrogate, "epochs": EPOCHS[surrogate], "medians": medians, "runs": runs}


def stacks(device: str, members: list[int], widths: list[int], batches: list[int]) -> Iterator[dict[str, Any]]:
    """How many times as many steps per second K models do together."""
    for family, shape in FAMILIES.items():
        for width in widths:
            for batch in batches:
                fixed = ["surrogate.activation=ReLU", f"trainer.batch_size={batch}", *shape(width)]
                config = compose_config(family, *fixed)
                data = linear_reactions(config.dataset)
                times = {k: speed_up(config, k, data, device) for k in members}
                yield {"family": family, "width": width, "batch": batch, "times": times}


def compiled(device: str) -> dict[str, float]:
    """Seconds to compile one shape, and milliseconds of a step in each way."""
    target = torch.device(device)
    fixed = ["trainer.batch_size=64", "surrogate.coder_layers=3", "surrogate.coder_width=32", "surrogate.degree=2"]
    config = compose_config("LatentPoly", "surrogate.activation=ReLU", *fixed)  # 8 batches of two shapes

    def run() -> tuple[Run, Step]:
        with seeded(0, target):
            made = Run(config, linear_reactions(config.dataset).to(target), target, None)
        return made, made.stepper()

    def milliseconds(made: Run, step: Step) -> float:
        for _ in range(20):
            made.train_epoch(step)
        start = perf_counter()
        for _ in range(50):
            made.train_epoch(step)
        return (perf_counter() - start) / 50 / len(made.batches.blocks) * 1000

    found = {"captured_ms": milliseconds(*run())}
    with eager("LatentPoly"):
        found["eager_ms"] = milliseconds(*run())
        made, step = run()
        made.model.loss = torch.compile(made.model.loss)  # type: ignore[method-assign]
        start = perf_counter()
        made.train_epoch(step)
        found["compile_s"] = perf_counter() - start
        found["compiled_ms"] = milliseconds(made, step)
    made, step = run()
    made.model.loss = torch.compile(made.model.loss)  # type: ignore[method-assign]
    made.train_epoch(step)
    found["compiled_and_captured_ms"] = milliseconds(made, step)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--surrogates", nargs="*", default=list(TRIALS), choices=list(TRIALS))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--ways", nargs="*", default=list(WAYS), choices=list(WAYS))
    parser.add_argument("--members", nargs="*", type=int, default=[8, 32])
    parser.add_argument("--widths", nargs="*", type=int, default=[64, 150])
    parser.add_argument("--batches", nargs="*", type=int, default=[64, 1024])
    parser.add_argument("--compile", action="store_true", help="measure torch.compile too")
    parser.add_argument("--out", type=Path, default=RESULT)
    arguments = parser.parse_args()
    warm_up(arguments.device)
    content: dict[str, Any] = {
        "date": date.today().isoformat(),
        "device": device_model(arguments.device),
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "trials": [],
        "stacks": [],
    }

    def keep() -> None:
        arguments.out.parent.mkdir(exist_ok=True)
        arguments.out.write_text(json.dumps(content, indent=1) + "\n")

    ways = arguments.ways
    print(f"{content['device']}\n{'seconds, LAE99 of a trial':<28}" + "".join(f"{way:>16}" for way in ways))
    for name in arguments.surrogates:
        row = trials(name, ways, arguments.repeats, arguments.device)
        content["trials"].append(row)
        keep()
        print(f"{name:<28}" + "".join(f"{seconds:>8.2f}{lae99:>8.3f}" for seconds, lae99 in row["medians"].values()))
    print(f"{'times as many steps of K models':<34}" + "".join(f"{f'K={k}':>8}" for k in arguments.members))
    for row in tqdm(stacks(arguments.device, arguments.members, arguments.widths, arguments.batches), disable=None):
        content["stacks"].append(row)
        keep()
        shape = f"{row['family']} {row['width']}, batch {row['batch']}"
        print(f"{shape:<34}" + "".join(f"{value:>8.1f}" for value in row["times"].values()))
    if arguments.compile:
        content["compile"] = compiled(arguments.device)
        keep()
        print(content["compile"])


if __name__ == "__main__":
    main()
