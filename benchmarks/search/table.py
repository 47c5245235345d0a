"""Real trainings, each made once, when a study first asks for it."""

import json
import zlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import process_time
from typing import Any

from benchmarks.search.problems import Cell, Problem
from codes.errors import Diverged
from codes.training import train


@dataclass(frozen=True)
class Training:
    """What is kept of one training.

    ``seconds`` of CPU from its start to its end, evaluations and timing included. ``curve``: LAE99 on ``test`` at each
    evaluation; shorter than usual where it diverged. ``best``: LAE99 of the weights that it kept. ``early`` and
    ``latency``: inference time measured at the first evaluation and at the end, seconds.
    """

    seconds: float
    curve: tuple[float, ...]
    best: float | None = None
    early: float | None = None
    latency: float | None = None


class Table:
    """Trainings of one file, a line each, in the order in which they were made."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: dict[str, dict[Cell, Training]] = {}
        for line in path.read_text().splitlines() if path.exists() else []:
            row = json.loads(line)
            self.of(row["problem"])[tuple(row["cell"])] = Training(row["s"], tuple(row["curve"]), *row["end"])

    def of(self, problem: str) -> dict[Cell, Training]:
        """Trainings of one problem."""
        return self.rows.setdefault(problem, {})

    def get(self, problem: Problem, cell: Cell) -> Training:
        """The training of ``cell``, made now if there is none."""
        known = self.of(problem.name)
        if cell not in known:
            known[cell] = made = train_cell(problem, cell)
            end = (made.best, made.early, made.latency)
            row = {"problem": problem.name, "cell": cell, "s": made.seconds, "curve": made.curve, "end": end}
            with self.path.open("a") as file:
                file.write(json.dumps(row, separators=(",", ":")) + "\n")
        return known[cell]

    def latencies(self, problem: Problem) -> Mapping[Cell, float]:
        """Inference time of each architecture: the median over all trainings of it, hours and loads apart."""
        measured: dict[Cell, list[float]] = {}
        for cell, training in self.of(problem.name).items():
            if training.latency is not None:
                measured.setdefault(problem.architecture(cell), []).append(training.latency)
        return {architecture: median(seconds) for architecture, seconds in measured.items()}


def train_cell(problem: Problem, cell: Cell) -> Training:
    """Train at the centre of ``cell``, from a seed of its own."""
    settings = problem.settings(cell, zlib.crc32(repr(cell).encode()) % 2**31)
    data, seen = problem.data, list[dict[str, float]]()
    start = process_time()
    end: dict[str, Any] = {}
    with suppress(Diverged):
        end = train(settings, data, "cpu", lambda _, metrics: seen.append(metrics), progress=False).metrics
    seconds = process_time() - start
    curve = tuple(_short(metrics["lae99"]) for metrics in seen)
    early = _short(seen[0]["inference_time"]) if seen else None
    if not end:
        return Training(_short(seconds), curve, early=early)
    return Training(_short(seconds), curve, _short(end["lae99"]), early, _short(end["inference_time"]))


def _short(value: float) -> float:
    return float(f"{value:.4g}")
