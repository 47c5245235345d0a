"""Real trainings, each made once, when a study first asks for it.

A cell has as many as a study has ever wanted: when it comes to a cell for the second time, it gets the second one. Else
a sampler that stays where it is good would find nothing there any more.
"""

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


Key = tuple[Cell, int]  # a cell, and which of its trainings


class Table:
    """Trainings of a folder: a file for each problem, and there a line for each training, oldest first."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows: dict[str, dict[Key, Training]] = {}
        for path in sorted(folder.glob("*.jsonl")):
            for line in path.read_text().splitlines():
                cell, visit, seconds, curve, end = json.loads(line)
                self.of(path.stem)[tuple(cell), visit] = Training(seconds, tuple(curve), *end)

    def of(self, problem: str) -> dict[Key, Training]:
        """Trainings of one problem."""
        return self.rows.setdefault(problem, {})

    def get(self, problem: Problem, key: Key) -> Training:
        """A training, made now if there is none."""
        known = self.of(problem.name)
        if key not in known:
            known[key] = made = train_cell(problem, key)
            row = [*key, made.seconds, made.curve, (made.best, made.early, made.latency)]
            self.folder.mkdir(parents=True, exist_ok=True)
            with (self.folder / f"{problem.name}.jsonl").open("a") as file:
                file.write(json.dumps(row, separators=(",", ":")) + "\n")
        return known[key]

    def latencies(self, problem: Problem) -> Mapping[Cell, float]:
        """Inference time of each architecture: the median over all trainings of it, hours and loads apart."""
        measured: dict[Cell, list[float]] = {}
        for (cell, _), training in self.of(problem.name).items():
            if training.latency is not None:
                measured.setdefault(problem.architecture(cell), []).append(training.latency)
        return {architecture: median(seconds) for architecture, seconds in measured.items()}


def train_cell(problem: Problem, key: Key) -> Training:
    """Train at the centre of a cell, from a seed that no other training of it has."""
    cell, visit = key
    settings = problem.settings(cell, zlib.crc32(repr(cell).encode()) % 2**31 + visit)
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
