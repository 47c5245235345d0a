"""What a training refuses before anything is spent."""

from codes.errors import UserError
from codes.metrics import METRICS, direction
from codes.schema import TrainConfig
from codes.surrogates import SURROGATES, rules
from codes.surrogates.rules import Rule, at_least

TRAINER_RULES = {
    "epochs": at_least(1),
    "batch_size": at_least(1),
    "batch_times": at_least(1),
    "evaluate_every": at_least(1),
    "target_percentile": Rule("greater than 0 and at most 100", lambda value: 0 < value <= 100),
    "keep": Rule("best or last", lambda value: value in ("best", "last")),
    "checkpoint_every": at_least(0),
    "latency_repeats": at_least(1),
    "threads": at_least(1),
}
SEED_RULE = Rule("in [0, 2**63)", lambda value: 0 <= value < 2**63)


def check_config(config: TrainConfig) -> None:
    """Refuse values out of range with a ``UserError`` that names key, rule and value; null is always allowed."""
    checks = [(f"trainer.{key}", getattr(config.trainer, key), rule) for key, rule in TRAINER_RULES.items()]
    for key, value, rule in [*checks, ("seed", config.seed, SEED_RULE)]:
        if value is not None and not rule.holds(value):
            raise UserError(f"{key}: must be {rule.text} but got {value}")
    for metric in config.objective.metrics:
        direction(metric)
    if not config.objective.metrics:
        raise UserError(f"objective.metrics: must name at least one of {', '.join(METRICS)}")
    surrogate = config.surrogate
    if surrogate.name not in SURROGATES:
        raise UserError(f"surrogate.name: '{surrogate.name}' is unknown; choose from {', '.join(SURROGATES)}")
    rules.check_config(surrogate, SURROGATES[surrogate.name].bounds)
    if surrogate.scheduler == "schedulefree" and surrogate.optimizer == "sgd" and not surrogate.momentum > 0:
        raise UserError(
            "surrogate.momentum: must be greater than 0 with surrogate.scheduler=schedulefree and "
            f"surrogate.optimizer=sgd but got {surrogate.momentum}; raise it or choose the scheduler cosine or poly"
        )
