"""The six problems: a small dataset and a small surrogate each, and the cells that their search space is cut into."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from benchmarks.tuner import study_config
from codes.data import PreparedData, TensorSplit, load_data
from codes.schema import TrainConfig
from train import settings as settings_of

N_TRAIN, N_TEST = 64, 32  # trajectories
FIRST, FOURTH = slice(26), slice(None, None, 4)  # of their 101 times; whole oscillations need longer trainings
TIMES = {"lotka_volterra": FIRST, "brusselator": FIRST, "robertson": FOURTH}
TRIALS = 80  # what the studies are planned for, and their budget in whole trainings
EPOCHS, LOOK = 27, 3  # 81 steps, 9 evaluations
COMMON: dict[str, list[Any]] = {
    "learning_rate": [3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1],
    "optimizer": ["adamw", "sgd"],
    "momentum": [0.7, 0.95],
    "scheduler": ["schedulefree", "cosine", "poly"],
    "activation": ["ReLU", "GELU"],
}
# Centres of the cells; what is sampled but not named here stays at its default in every training.
CELLS: dict[str, dict[str, list[Any]]] = {
    "FullyConnected": {**COMMON, "hidden_size": [8, 16, 32, 64], "num_hidden_layers": [1, 2, 4]},
    "LatentPoly": {
        **COMMON,
        **{"latent_features": [3, 6], "degree": [2, 4], "coder_layers": [1, 3], "coder_width": [12, 40]},
    },
}
ARCHITECTURE = ("activation", "hidden_size", "num_hidden_layers", *list(CELLS["LatentPoly"])[len(COMMON) :])
# Ranges of conf/search_space, for small data and short trainings.
RANGES = {
    "FullyConnected": {"hidden_size": (8, 64), "num_hidden_layers": (1, 4)},
    "LatentPoly": {"latent_features": (2, 8), "degree": (1, 5), "coder_layers": (1, 4), "coder_width": (8, 64)},
}
BATCH = {"FullyConnected": 640, "LatentPoly": 22}  # three steps in an epoch
Cell = tuple[Any, ...]  # a value for each of CELLS[surrogate], None where its condition does not hold


@dataclass(frozen=True)
class Problem:
    """A dataset and a surrogate."""

    dataset: str
    surrogate: str

    @property
    def name(self) -> str:
        """As it is written in results."""
        return f"{self.dataset}-{self.surrogate}"

    @property
    def cells(self) -> Mapping[str, list[Any]]:
        """Centres of the cells of each parameter that makes a difference."""
        return CELLS[self.surrogate]

    def compose(self, *overrides: str) -> DictConfig:
        """The project's config of a study."""
        ranges = {"learning_rate": (1e-4, 1e-1), **RANGES[self.surrogate]}
        bounds = [(name, bound, pair[i]) for name, pair in ranges.items() for i, bound in enumerate(("low", "high"))]
        return study_config(
            Path("nowhere"),
            *(f"surrogate={self.surrogate}", f"dataset={self.dataset}", "devices=[cpu]", "device=cpu"),
            *(f"dataset.generate.n_train={N_TRAIN}", f"dataset.generate.n_test={N_TEST}", "dataset.generate.n_val=1"),
            *(f"trainer.epochs={EPOCHS}", f"trainer.evaluate_every={LOOK}", "trainer.threads=1"),
            *(f"trainer.batch_size={BATCH[self.surrogate]}", "trainer.latency_repeats=10", f"trials={TRIALS}"),
            *(f"search_space.{name}.{bound}={value}" for name, bound, value in bounds),
            f"search_space.activation.choices=[{','.join(COMMON['activation'])}]",
            *(["~search_space.basis"] if self.surrogate == "LatentPoly" else []),  # trainings were made without
            "dataset.n_parameters=0",
            *overrides,
        )

    @cached_property
    def base(self) -> TrainConfig:
        """What trainings start from; two objectives, so that an early inference time is measured too."""
        return settings_of(self.compose("objective=dual"))

    def settings(self, cell: Cell, seed: int) -> TrainConfig:
        """What the training of ``cell`` depends on."""
        values = {name: value for name, value in zip(self.cells, cell, strict=True) if value is not None}
        return replace(self.base, seed=seed, surrogate=replace(self.base.surrogate, **values))

    def cell_of(self, params: Mapping[str, Any]) -> Cell:
        """The cell that a trial's parameters lie in."""
        return tuple(_nearest(values, params[name]) if name in params else None for name, values in self.cells.items())

    def architecture(self, cell: Cell) -> Cell:
        """The part of ``cell`` that its inference time depends on."""
        return tuple(value for name, value in zip(self.cells, cell, strict=True) if name in ARCHITECTURE)

    @cached_property
    def data(self) -> PreparedData:
        """Its trajectories, at a quarter of their times."""
        return thinned(self.dataset)


@cache
def thinned(dataset: str) -> PreparedData:
    """A quarter of the times of a small generated dataset."""
    times = TIMES[dataset]

    def thin(split: TensorSplit) -> TensorSplit:
        return replace(split, x=split.x[:, times].contiguous())

    data = load_data(Problem(dataset, "FullyConnected").base.dataset)
    t = data.t[times] / data.t[times].max()
    train, test, val = thin(data.train), thin(data.test), thin(data.val)
    spec = replace(data.spec, n_timesteps=len(t))
    return replace(data, spec=spec, t=t, timesteps=data.timesteps[times], train=train, test=test, val=val)


def _nearest(centres: list[Any], value: Any) -> Any:
    """The one of ``centres`` that is nearest, by ratio for numbers."""
    if isinstance(value, str):
        return value
    return min(centres, key=lambda centre: abs(math.log(value / centre)))


PROBLEMS = tuple(Problem(dataset, surrogate) for dataset in TIMES for surrogate in CELLS)
