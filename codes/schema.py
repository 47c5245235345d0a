"""Types of every config: Hydra checks each YAML file and each override against them.

Types and their meaning live here, numbers live in ``conf/``. Nothing heavy is imported, so that ``--help``, ``--cfg`` and
tab completion stay quick.
"""

from dataclasses import dataclass, field
from typing import Any, Literal, Optional  # noqa: UP035 - OmegaConf reads the annotations at run time

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

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
    n_train: int = MISSING
    n_test: int = MISSING
    n_val: int = MISSING
    seed: int = MISSING


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
    tolerance: Optional[float] = None  # floor applied before log10
    time_scale: Literal["index", "linear", "log10"] = MISSING
    n_parameters: Optional[int] = None  # read from the data by tune.py, for conditions of search spaces


@dataclass
class SurrogateConfig:
    """Hyperparameters that every surrogate family has."""

    name: str = MISSING
    activation: Activation = MISSING
    learning_rate: float = MISSING
    regularization_factor: float = MISSING  # weight decay
    optimizer: Literal["adamw", "sgd"] = MISSING
    momentum: float = MISSING  # sgd
    scheduler: Literal["schedulefree", "cosine", "poly"] = MISSING
    poly_power: float = MISSING  # poly
    eta_min: float = MISSING  # cosine: final learning rate as a fraction of learning_rate
    loss: Literal["mse", "smooth_l1"] = MISSING
    beta: float = MISSING  # smooth_l1


@dataclass
class MultiONetConfig(SurrogateConfig):
    branch_hidden_layers: int = MISSING
    trunk_hidden_layers: int = MISSING
    hidden_size: int = MISSING
    output_factor: int = MISSING  # terms of the scalar product of each quantity
    params_branch: bool = MISSING  # parameters enter the branch net, otherwise the trunk net


@dataclass
class FullyConnectedConfig(SurrogateConfig):
    hidden_size: int = MISSING
    num_hidden_layers: int = MISSING


@dataclass
class LatentConfig(SurrogateConfig):
    """Encoder and decoder, and the weights of the loss terms that both latent families add."""

    latent_features: int = MISSING
    coder_layers: int = MISSING
    coder_width: int = MISSING
    identity_weight: float = MISSING  # decode(encode(x0)) against x0
    derivative_weight: float = MISSING  # first time derivative
    curvature_weight: float = MISSING  # second time derivative


@dataclass
class LatentPolyConfig(LatentConfig):
    degree: int = MISSING
    coeff_network: bool = MISSING  # parameters set the coefficients, otherwise they enter the encoder
    coeff_width: int = MISSING
    coeff_layers: int = MISSING


@dataclass
class LatentNeuralODEConfig(LatentConfig):
    ode_layers: int = MISSING
    ode_width: int = MISSING
    ode_tanh_reg: bool = MISSING  # right-hand side is scale * tanh(network), bounded
    encode_params: bool = MISSING  # parameters enter the encoder, otherwise the right-hand side
    rtol: float = MISSING
    atol: float = MISSING


@dataclass
class TrainerConfig:
    """The one training loop."""

    epochs: int = MISSING
    batch_size: int = MISSING  # rows (trajectory, time) of pointwise surrogates, trajectories of latent ones
    batch_times: Optional[int] = None  # times in a batch of a pointwise surrogate; null: a quarter of its trajectories
    evaluate_every: int = MISSING  # epochs
    target_percentile: float = MISSING  # of lae99
    keep: Literal["best", "last"] = MISSING  # which weights are returned
    checkpoint_every: int = MISSING  # epochs between checkpoints that trainer.resume starts from; 0: none
    resume: bool = MISSING
    latency_repeats: int = MISSING
    threads: Optional[int] = None  # CPU threads; null: PyTorch's choice


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
    seed: int = MISSING
    device: str = MISSING


@dataclass
class TrainRunConfig(TrainConfig):
    training_id: str = MISSING


@dataclass
class TuneConfig(TrainConfig):
    tuning_id: str = MISSING
    output_dir: str = MISSING
    trials: int = MISSING  # valid trials at the end
    devices: list[str] = MISSING  # one entry, one slot; [auto]: every visible GPU, else the CPU
    search_space: dict[str, Any] = MISSING
    storage: StorageConfig = field(default_factory=StorageConfig)
    sampler: dict[str, Any] = MISSING
    pruner: dict[str, Any] = MISSING
    max_invalid: int = MISSING  # invalid trials after which a study stops


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
