"""Types of every config: Hydra checks each YAML file and each override against them.

Types, legal ranges and meaning live here, numbers live in ``conf/``. Nothing heavy is imported, so that ``--help``,
``--cfg`` and tab completion stay quick.
"""

from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal, Optional

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf

from codes.limits import COUNT, NOT_NEGATIVE, PORT, POSITIVE, SEED, Limit, limited

Activation = Literal[
    "CELU", "ELU", "GELU", "LeakyReLU", "Mish", "PReLU", "ReLU", "SELU", "SiLU", "Sigmoid", "Softplus", "Tanh"
]
# The check of memory makes the layers of larger networks for minutes, and cannot count their bytes.
LAYERS, WIDTH = Limit(1, 1000), Limit(1, 10**6)
SMALLEST, LARGEST = 1e-30, 1e30  # which float32 holds, also multiplied; what is smaller counts as 0 in a training
NOT_TINY = Limit(SMALLEST)
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
    content: Optional[str] = None  # source=file: SHA-256 of the file, read by tune.py; its study goes on with no other
    n_parameters: Optional[int] = None  # read from the data by tune.py, for conditions of search spaces


@dataclass
class SurrogateConfig:
    """Hyperparameters that every surrogate family has."""

    name: str = MISSING
    activation: Activation = MISSING
    learning_rate: float = limited(Limit(SMALLEST, LARGEST))
    regularization_factor: float = limited(Limit(0, LARGEST))  # weight decay
    optimizer: Literal["adamw", "sgd"] = MISSING
    momentum: float = limited(Limit(0, 1, below=True))  # sgd
    scheduler: Literal["schedulefree", "cosine", "poly"] = MISSING
    poly_power: float = limited(NOT_TINY)  # poly
    eta_min: float = limited(Limit(0, 1))  # cosine: final learning rate as a fraction of learning_rate
    loss: Literal["mse", "smooth_l1"] = MISSING
    beta: float = limited(NOT_TINY)  # smooth_l1


@dataclass
class MultiONetConfig(SurrogateConfig):
    branch_hidden_layers: int = limited(LAYERS)
    trunk_hidden_layers: int = limited(LAYERS)
    hidden_size: int = limited(WIDTH)
    output_factor: int = limited(WIDTH)  # terms of the scalar product of each quantity
    params_branch: bool = MISSING  # parameters enter the branch net, otherwise the trunk net


@dataclass
class FullyConnectedConfig(SurrogateConfig):
    hidden_size: int = limited(WIDTH)
    num_hidden_layers: int = limited(LAYERS)


@dataclass
class LatentConfig(SurrogateConfig):
    """Encoder and decoder, and the weights of the loss terms that both latent families add."""

    latent_features: int = limited(WIDTH)
    coder_layers: int = limited(LAYERS)
    coder_width: int = limited(WIDTH)
    identity_weight: float = limited(NOT_NEGATIVE)  # decode(encode(x0)) against x0
    derivative_weight: float = limited(NOT_NEGATIVE)  # first time derivative
    curvature_weight: float = limited(NOT_NEGATIVE)  # second time derivative


@dataclass
class LatentPolyConfig(LatentConfig):
    degree: int = limited(Limit(1, 100))
    basis: Literal["chebyshev", "powers"] = MISSING
    coeff_network: bool = MISSING  # parameters set the coefficients, otherwise they enter the encoder
    coeff_width: int = limited(WIDTH)
    coeff_layers: int = limited(LAYERS)


@dataclass
class LatentNeuralODEConfig(LatentConfig):
    ode_layers: int = limited(LAYERS)
    ode_width: int = limited(WIDTH)
    ode_tanh_reg: bool = MISSING  # right-hand side is scale * tanh(network), bounded
    encode_params: bool = MISSING  # parameters enter the encoder, otherwise the right-hand side
    rtol: float = limited(NOT_TINY)
    atol: float = limited(NOT_TINY)


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
    check_memory: bool = True  # a training that would need more than there is ends before it starts
    # auto: of large layers in bfloat16 where the CPU has it, but for the last quarter
    gradients: Literal["auto", "float32"] = "float32"  # as configs of before the key meant
    threads: Optional[int] = limited(Limit(1, 1024), None)  # CPU threads; null: PyTorch's choice


@dataclass
class ObjectiveConfig:
    """What is optimised; the direction of each metric comes from its registry."""

    metrics: list[Metric] = MISSING


@dataclass
class StorageConfig:
    """Where Optuna keeps the studies."""

    backend: Literal["sqlite", "postgres", "journal", "memory"] = MISSING


@dataclass
class FileStorageConfig(StorageConfig):
    path: str = MISSING


@dataclass
class PostgresConfig(StorageConfig):
    """A PostgreSQL server: a private one that is started for the study, or one that others look after."""

    mode: Literal["local", "remote"] = MISSING
    host: Optional[str] = None  # remote
    port: Optional[int] = limited(PORT, None)  # local: a free one
    user: Optional[str] = None  # remote
    password: Optional[str] = field(default=None, repr=False)  # remote; PGPASSWORD and ~/.pgpass come first
    database: str = MISSING
    schema: Optional[str] = None
    sslmode: Optional[Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]] = None  # remote
    connect_timeout: int = limited(COUNT)  # seconds
    pool_size: int = limited(Limit(2))  # connections besides the one that claims trials; Optuna opens two at its start
    retry_for: float = limited(NOT_NEGATIVE)  # seconds that the server may be away in mid-study
    data_dir: str = MISSING  # local: the server's files
    database_folder: Optional[str] = None  # local: the server's programs
    keep_running: bool = MISSING  # local


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
    devices: list[str] = MISSING  # of the jobs of a multirun: one for each process; [auto] as in tune.py


@dataclass
class FineConfig:
    """What the fine stage refines, and how far around."""

    name: str = MISSING  # of the stage, at the end of the names of its study, its folder and its summary
    study: str = MISSING  # whose best trial is the centre, where it has one
    factor: float = limited(Limit(1, 1e6, above=True))
    parameters: Optional[list[str]] = None
    summary: str = MISSING  # file that names source, ranges and budget of every surrogate's fine stage


@dataclass
class KnownConfig:
    """Centre of the fine stage: the sections of the config, and the trial whose parameters tune.py writes into them."""

    surrogate: Any = MISSING
    trainer: Any = MISSING
    dataset: Any = MISSING
    study: Optional[str] = None  # null: the centre is what was composed
    trial: Optional[int] = None
    values: Optional[dict[str, float]] = None
    parameters: dict[str, Any] = field(default_factory=dict)


@dataclass
class SlotConfig:
    """What a device slot does with its trials."""

    population: int | str = MISSING  # trials that train together as one stacked model; auto: where it pays


@dataclass
class TuneConfig(TrainConfig):
    tuning_id: str = MISSING
    study_name: str = MISSING
    output_dir: str = MISSING
    trials: Optional[int] = limited(COUNT)  # valid trials at the end; null: 15 for each tuned parameter
    slot: SlotConfig = field(default_factory=SlotConfig)
    devices: list[str] = MISSING  # one entry, one slot; [auto]: every visible GPU, else the CPU; [cores]: a core each
    search_space: Any = MISSING  # a mapping, or in the fine stage what makes one
    storage: StorageConfig = field(default_factory=StorageConfig)
    sampler: dict[str, Any] = MISSING
    pruner: dict[str, Any] = MISSING
    max_invalid: int = limited(NOT_NEGATIVE)  # invalid trials in a row after which a study stops
    deadline: float = limited(Limit(1, 1e9))  # seconds without a sign of life after which a worker is ended
    timeout: Optional[float] = limited(POSITIVE)  # seconds of a launch after which no trial starts
    warm_start: bool = MISSING  # the composed configuration, and the same without its optimum, are tried first
    on_config_change: Literal["ask", "abort", "reuse", "overwrite"] = MISSING  # ask: abort without a terminal
    keep_models: Optional[int] = limited(COUNT)  # best trials whose models stay, besides the Pareto front; null: all
    time_pruning: bool = MISSING  # trainings that would take much longer than the first ones are stopped
    loss_cap: float = limited(POSITIVE)  # error that a study of several objectives is told of such a training
    fine: Optional[FineConfig] = None
    known: Optional[KnownConfig] = None
    explore: Optional[dict[str, Any]] = None  # fine stage: the search space that is narrowed


# What trials that train together may differ in; whatever else they are, they are alike (codes/training/population.py).
OF_A_MEMBER = (
    "seed",
    *("surrogate.learning_rate", "surrogate.regularization_factor", "surrogate.optimizer", "surrogate.momentum"),
    *("surrogate.scheduler", "surrogate.poly_power", "surrogate.eta_min", "surrogate.loss", "surrogate.beta"),
)
# What is read with one value of another key only, so that without that value it makes no difference.
READ_WITH: dict[str, tuple[str, object]] = {
    "surrogate.momentum": ("surrogate.optimizer", "sgd"),
    "surrogate.poly_power": ("surrogate.scheduler", "poly"),
    "surrogate.eta_min": ("surrogate.scheduler", "cosine"),
    "surrogate.beta": ("surrogate.loss", "smooth_l1"),
    "surrogate.coeff_width": ("surrogate.coeff_network", True),
    "surrogate.coeff_layers": ("surrogate.coeff_network", True),
}
SURROGATE_SCHEMAS: dict[str, type[SurrogateConfig]] = {
    "MultiONet": MultiONetConfig,
    "FullyConnected": FullyConnectedConfig,
    "LatentPoly": LatentPolyConfig,
    "LatentNeuralODE": LatentNeuralODEConfig,
}
STORAGE_SCHEMAS: dict[str, type[StorageConfig]] = {
    "sqlite": FileStorageConfig,
    "postgres": PostgresConfig,
    "journal": FileStorageConfig,
    "memory": StorageConfig,
}


@cache
def typed_train_config() -> DictConfig:
    """``TrainConfig`` to merge into, which leaves it as it is: made once, since making it takes as long as merging."""
    return OmegaConf.structured(TrainConfig)


@cache
def register() -> None:
    """Register every schema in Hydra's ConfigStore, where the YAML files find them as ``schema/...``."""
    store = ConfigStore.instance()
    store.store("train", TrainRunConfig, group="schema", replace=True)
    store.store("tune", TuneConfig, group="schema", replace=True)
    for name, schema in SURROGATE_SCHEMAS.items():
        store.store(name, schema, group="schema/surrogate", replace=True)
    for name, storage in STORAGE_SCHEMAS.items():
        store.store(name, storage, group="schema/storage", replace=True)
