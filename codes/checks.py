"""What a training refuses before anything is spent, and a study of what its trainings start from. Without torch."""

from dataclasses import fields, is_dataclass

from omegaconf import DictConfig, OmegaConf

from codes.errors import UserError, did_you_mean
from codes.limits import check, check_value, limit_of
from codes.metrics import METRICS, direction
from codes.schema import SURROGATE_SCHEMAS, TrainConfig


def check_keys(config: DictConfig, section: str = "") -> None:
    """Refuse a key that no schema has, with a ``UserError``: Hydra takes it with a ``+``, and nothing would read it."""
    kind = OmegaConf.get_type(config)
    known = [field.name for field in fields(kind)] if is_dataclass(kind) else [str(key) for key in config]
    for key in map(str, config):
        name = f"{section}.{key}" if section else key
        if key not in known:
            hint = did_you_mean(key, known)
            raise UserError(f"{name}: there is no such key; {hint}{section or 'the config'} has {', '.join(known)}")
        node = config._get_node(key)
        if isinstance(node, DictConfig):  # one that is null, ??? or an interpolation has no keys
            check_keys(node, name)


def check_config(config: TrainConfig) -> None:
    """Refuse values out of range with a ``UserError`` that names key, rule and value."""
    check(config.trainer, "trainer")
    check_value("seed", config.seed, int, limit_of(TrainConfig, "seed"))
    for metric in config.objective.metrics:
        direction(metric)
    if not config.objective.metrics:
        raise UserError(f"objective.metrics: must name at least one of {', '.join(METRICS)}")
    surrogate = config.surrogate
    if surrogate.name not in SURROGATE_SCHEMAS:
        raise UserError(f"surrogate.name: '{surrogate.name}' is unknown; choose from {', '.join(SURROGATE_SCHEMAS)}")
    check(surrogate, "surrogate")
    if surrogate.scheduler == "schedulefree" and surrogate.optimizer == "sgd" and not surrogate.momentum > 0:
        raise UserError(
            "surrogate.momentum: must be greater than 0 with surrogate.scheduler=schedulefree and "
            f"surrogate.optimizer=sgd but got {surrogate.momentum}; raise it or choose the scheduler cosine or poly"
        )
