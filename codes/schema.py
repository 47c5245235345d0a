"""Types of every config: Hydra checks each YAML file and each override against them.

Types, legal ranges and meaning live here, numbers live in ``conf/``. Nothing heavy is imported, so that ``--help``,
``--cfg`` and tab completion stay quick.
"""

from dataclasses import dataclass, field
from typing import Any, Literal, Optional

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

from codes.limits import COUNT, NOT_NEGATIVE, POSITIVE, SEED, Limit, limited

Activation = Literal[
    "CELU", "ELU", "GELU", "LeakyReLU", "Mish", "PReLU", "ReLU", "SELU", "SiLU", "Sigmoid", "Softplus", "Tanh"
]
Metric = Literal["lae99", "mlae", "mae", "mse", "inference_time", "train_time", "n_parameters"]


@dataclass(frozen=True)
class DataSpec:
    """Shapes of a dataset, taken from the data itself: ``Q`` quantities, ``P`` parameters, ``T`` timesteps."""

    n_quantities: int
    n_parameters: int
    n_timesteps: int


@dataclass
class GenerateConfig:
    """How many trajectories of which built-in ODE system are integrated, and from which seed."""

    system: str = MISSING
    n_train: int = limited(COUNT)
    n_test: int = limited(COUNT)
    n_val: int = limited(COUNT)
    seed: int = limited(SEED)


@dataclass
class DatasetConfig:
    """Where trajectories come from and how they are scaled before a surrogate sees them."""

    name: str = MISSING
    source: Literal["generate", "download", "file"] = MISSING
    path: Optional[str] = None  # source=file: the HDF5 file
    url: Optional[str] = None  # source=download
    generate: Optional[GenerateConfig] = None  # source=generate
    data_dir: str = MISSING  # generated and downloaded files are kept here
    log10_transform: bool = MISSING
    log10_transform_params: bool = MISSING
    normalise: Literal["minmax", "standardise", "disable"] = MISSING
    normalise_per_quantity: bool = MISSING
    tolerance: Optional[float] = limited(POSITIVE, None)  # floor applied before log10
    time_scale: Literal["index", "linear", "log10"] = MISSING
    n_parameters: Optional[int] = None  # read from the data by tune.py, for conditions of search spaces


@dataclass
class SurrogateConfig:
    """Hyperparameters that every surrogate family has."""

    name: str = MISSING
    activation: Activation = MISSING
    learning_rate: float = limited(POSITIVE)
    regularization_factor: float = limited(NOT_NEGATIVE)  # weight decay
    optimizer: Literal["adamw", "sgd"] = MISSING
    momentum: float = limited(Limit(0, 1, below=True))  # sgd
    scheduler: Literal["schedulefree", "cosine", "poly"] = MISSING
    poly_power: float = limited(POSITIVE)  # poly
    eta_min: float = limited(Limit(0, 1))  # cosine: final learning rate as a fraction of learning_rate
    loss: Literal["mse", "smooth_l1"] = MISSING
    beta: float = limited(POSITIVE)  # smooth_l1


@dataclass
class MultiONetConfig(SurrogateConfig):
    branch_hidden_layers: int = limited(COUNT)
    trunk_hidden_layers: int = limited(COUNT)
    hidden_size: int = limited(COUNT)
    output_factor: int = limited(COUNT)  # terms of the scalar product of each quantity
    params_branch: bool = MISSING  # parameters enter the branch net, otherwise the trunk net


@dataclass
class FullyConnectedConfig(SurrogateConfig):
    hidden_size: int = limited(COUNT)
    num_hidden_layers: int = limited(COUNT)


@dataclass
class LatentConfig(SurrogateConfig):
    """Encoder and decoder, and the weights of the loss terms that both latent families add."""

    latent_features: int = limited(COUNT)
    coder_layers: int = limited(COUNT)
    coder_width: int = limited(COUNT)
    identity_weight: float = limited(NOT_NEGATIVE)  # decode(encode(x0)) against x0
    derivative_weight: float = limited(NOT_NEGATIVE)  # first time derivative
    curvature_weight: float = limited(NOT_NEGATIVE)  # second time derivative


@dataclass
class LatentPolyConfig(LatentConfig):
    degree: int = limited(COUNT)
    coeff_network: bool = MISSING  # parameters set the coefficients, otherwise they enter the encoder
    coeff_width: int = limited(COUNT)
    coeff_layers: int = limited(COUNT)


@dataclass
class LatentNeuralODEConfig(LatentConfig):
    ode_layers: int = limited(COUNT)
    ode_width: int = limited(COUNT)
    ode_tanh_reg: bool = MISSING  # right-hand side is scale * tanh(network), bounded
    encode_params: bool = MISSING  # parameters enter the encoder, otherwise the right-hand side
    rtol: float = limited(POSITIVE)
    atol: float = limited(POSITIVE)


@dataclass
class TrainerConfig:
    """The one training loop."""

    epochs: int = limited(COUNT)
    batch_size: int = limited(COUNT)  # rows (trajectory, time) of pointwise surrogates, trajectories of latent ones
    batch_times: Optional[int] = limited(COUNT, None)  # of a pointwise surrogate; null: a quarter of its trajectories
    evaluate_every: int = limited(COUNT)  # epochs
    target_percentile: float = limited(Limit(0, 100, above=True))  # of lae99
    keep: Literal["best", "last"] = MISSING  # which weights are returned
    checkpoint_every: int = limited(NOT_NEGATIVE)  # epochs between checkpoints that trainer.resume starts from; 0: none
    resume: bool = MISSING
    latency_repeats: int = limited(COUNT)
    threads: Optional[int] = limited(COUNT, None)  # CPU threads; null: PyTorch's choice


@dataclass
class ObjectiveConfig:
    """What is optimised; the direction of each metric comes from its registry."""

    metrics: list[Metric] = MISSING


@dataclass
class StorageConfig:
    """Where Optuna keeps the studies."""

    backend: Literal["sqlite"] = MISSING
    path: str = MISSING


@dataclass
class TrainConfig:
    dataset: DatasetConfig = field(default_factory=DatasetConfig)
    surrogate: SurrogateConfig = field(default_factory=SurrogateConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    seed: int = limited(SEED)
    device: str = MISSING


@dataclass
class TrainRunConfig(TrainConfig):
    training_id: str = MISSING


@dataclass
class TuneConfig(TrainConfig):
    tuning_id: str = MISSING
    output_dir: str = MISSING
    trials: int = limited(COUNT)  # valid trials at the end
    devices: list[str] = MISSING  # one entry, one slot; [auto]: every visible GPU, else the CPU
    search_space: dict[str, Any] = MISSING
    storage: StorageConfig = field(default_factory=StorageConfig)
    sampler: dict[str, Any] = MISSING
    pruner: dict[str, Any] = MISSING
    max_invalid: int = limited(NOT_NEGATIVE)  # invalid trials after which a study stops


SURROGATE_SCHEMAS: dict[str, type[SurrogateConfig]] = {
    "MultiONet": MultiONetConfig,
    "FullyConnected": FullyConnectedConfig,
    "LatentPoly": LatentPolyConfig,
    "LatentNeuralODE": LatentNeuralODEConfig,
}


def register() -> None:
    """Register every schema in Hydra's ConfigStore, where the YAML files find them as ``schema/...``; also twice."""
    store = ConfigStore.instance()
    store.store("train", TrainRunConfig, group="schema", replace=True)
    store.store("tune", TuneConfig, group="schema", replace=True)
    for name, schema in SURROGATE_SCHEMAS.items():
        store.store(name, schema, group="schema/surrogate", replace=True)
