"""The fixed workload: a linear system of five quantities, solved exactly by the matrix exponential."""

from pathlib import Path

import numpy as np
from hydra import compose, initialize_config_dir
from numpy.typing import NDArray
from omegaconf import OmegaConf
from scipy.linalg import expm

from codes import resolvers, schema
from codes.data import Dataset, PreparedData, Split, prepare, write_dataset
from codes.schema import DatasetConfig, TrainConfig

N_TRAIN, N_TEST, N_TIMES, N_QUANTITIES = 500, 100, 101, 5
LABELS = tuple("ABCDE")
CONF = Path(__file__).parents[1] / "conf"


def compose_config(surrogate: str, *overrides: str) -> TrainConfig:
    """The project's defaults for ``surrogate``, with log10-transformed data.

    But for the batch size and the learning rate, which stay what the workload says, whatever the defaults become.
    """
    schema.register()
    resolvers.register()
    fixed = [
        f"surrogate={surrogate}",
        "optimal=off",
        "dataset=hdf5",
        "dataset.path=none",
        "dataset.log10_transform=true",
        "surrogate.learning_rate=1e-3",
        f"trainer.batch_size={64 if surrogate.startswith('Latent') else 1024}",
    ]
    fixed += ["trainer.latency_repeats=1", "trainer.checkpoint_every=0", "trainer.threads=null"]
    with initialize_config_dir(str(CONF)):
        composed = compose("train", [*fixed, *overrides])
    known = OmegaConf.masked_copy(composed, list(TrainConfig.__dataclass_fields__))
    config: TrainConfig = OmegaConf.to_object(OmegaConf.merge(TrainConfig, known))  # type: ignore[assignment]
    return config


def linear_reactions(config: DatasetConfig) -> PreparedData:
    """The dataset as a surrogate sees it."""
    t, train, test, val = _trajectories()
    return prepare(Dataset(Path("linear_reactions"), t, LABELS, Split(train), Split(test), Split(val)), config)


def linear_dataset(path: Path) -> Path:
    """The dataset as an HDF5 file at ``path``."""
    t, train, test, val = _trajectories()
    write_dataset(path, train, test, val, timesteps=t, labels=LABELS)
    return path


def _trajectories() -> tuple[NDArray[np.float64], ...]:
    """First-order reactions ``dx/dt = K x`` between all pairs of five species, so ``x(t) = expm(K t) x(0)``.

    Rates are spread over two decades, initial amounts over two; columns of ``K`` sum to zero (nothing is lost).
    """
    rng = np.random.default_rng(0)
    rates = np.exp(rng.uniform(np.log(0.05), np.log(5), (N_QUANTITIES, N_QUANTITIES)))
    np.fill_diagonal(rates, 0)
    np.fill_diagonal(rates, -rates.sum(0))
    t = np.linspace(0, 2, N_TIMES)
    propagators = np.stack([expm(rates * time) for time in t])
    x0 = 10 ** rng.uniform(-2, 0, (N_TRAIN + 2 * N_TEST, N_QUANTITIES))
    x = np.einsum("tij,nj->nti", propagators, x0)
    train, test, val = np.split(x, [N_TRAIN, N_TRAIN + N_TEST])
    return t, train, test, val
