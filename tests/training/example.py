"""A small problem with an exact solution, and configs composed from ``conf/``."""

from copy import deepcopy
from functools import cache
from pathlib import Path

import numpy as np
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from codes import resolvers, schema
from codes.data import Dataset, PreparedData, Split, prepare
from codes.schema import TrainConfig

SMALL = {
    "MultiONet": ["surrogate.hidden_size=16", "surrogate.output_factor=4"],
    "FullyConnected": ["surrogate.hidden_size=16"],
    "LatentPoly": ["surrogate.coder_width=16"],
    "LatentNeuralODE": ["surrogate.coder_width=16", "surrogate.ode_width=16"],
}


def config(surrogate: str = "MultiONet", *overrides: str) -> TrainConfig:
    """What ``train.py`` would compose, with small networks."""
    return deepcopy(_composed(surrogate, *overrides))


@cache
def _composed(surrogate: str, *overrides: str) -> TrainConfig:
    schema.register()
    resolvers.register()
    common = ["dataset=hdf5", "dataset.path=none", "optimal=off", "trainer.epochs=4", "trainer.evaluate_every=2"]
    small = ["trainer.batch_size=64" if surrogate in ("MultiONet", "FullyConnected") else "trainer.batch_size=8"]
    small += ["trainer.latency_repeats=5", "trainer.checkpoint_every=0", "trainer.threads=1", *SMALL[surrogate]]
    with initialize_config_dir(str(Path(__file__).parents[2] / "conf")):
        composed = compose("train", [f"surrogate={surrogate}", *common, *small, *overrides])
    known = OmegaConf.masked_copy(composed, list(TrainConfig.__dataclass_fields__))
    return OmegaConf.to_object(OmegaConf.merge(TrainConfig, known))


def dataset(parameters: bool = False) -> Dataset:
    """24 + 8 + 8 decays ``x(t) = x0 exp(-k t)`` of 3 quantities at 21 times; the rates are parameters, or fixed."""
    rng = np.random.default_rng(0)
    x0 = rng.uniform(0.5, 2, (40, 1, 3))
    rates = rng.uniform(0.5, 2, (40, 1, 3)) if parameters else np.array([0.5, 1.0, 2.0])
    t = np.linspace(0, 1, 21)
    x = x0 * np.exp(-rates * t[:, None])
    parts = (slice(0, 24), slice(24, 32), slice(32, 40))
    splits = [Split(x[part], rates[part, 0] if parameters else None) for part in parts]
    names = ("k_a", "k_b", "k_c") if parameters else ()
    return Dataset(Path("decay"), t, ("a", "b", "c"), *splits, parameter_labels=names)


@cache
def data(log10: bool = False, parameters: bool = False) -> PreparedData:
    """``dataset`` as a surrogate sees it."""
    return prepare(dataset(parameters), config("MultiONet", f"dataset.log10_transform={str(log10).lower()}").dataset)
