"""Values out of range are refused before anything is spent."""

import math
import re
from dataclasses import dataclass, field, replace

import pytest
from omegaconf import MISSING, OmegaConf

from codes.checks import check_config, check_keys
from codes.errors import UserError
from codes.limits import COUNT, PORT, POSITIVE, SEED, Limit, check_value
from codes.training import train
from tests.training import example

GOOD = example.config()


def changed(**values):
    config = replace(GOOD, surrogate=replace(GOOD.surrogate), trainer=replace(GOOD.trainer))
    for key, value in values.items():
        group, _, name = key.rpartition("__")
        setattr(getattr(config, group) if group else config, name, value)
    return config


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("surrogate__learning_rate", 0.0),
        ("surrogate__learning_rate", -1e-3),
        ("surrogate__learning_rate", math.nan),
        ("surrogate__learning_rate", math.inf),
        ("surrogate__learning_rate", 1e300),
        ("surrogate__learning_rate", 5e-324),
        ("surrogate__regularization_factor", -1e-9),
        ("surrogate__regularization_factor", 1e308),
        ("surrogate__hidden_size", 10**12),
        ("surrogate__output_factor", 10**30),
        ("surrogate__trunk_hidden_layers", 10**9),
        ("surrogate__momentum", 1.0),
        ("surrogate__momentum", -0.1),
        ("surrogate__eta_min", 1.1),
        ("surrogate__poly_power", 0.0),
        ("surrogate__beta", 0.0),
        ("surrogate__beta", 5e-324),
        ("surrogate__optimizer", "adam"),
        ("surrogate__scheduler", "linear"),
        ("surrogate__loss", "l1"),
        ("surrogate__name", "MultiOnet"),
        ("trainer__epochs", 0),
        ("trainer__batch_size", 0),
        ("trainer__batch_times", 0),
        ("trainer__evaluate_every", 0),
        ("trainer__target_percentile", 0.0),
        ("trainer__target_percentile", 100.1),
        ("trainer__target_percentile", math.nan),
        ("trainer__keep", "first"),
        ("trainer__checkpoint_every", -1),
        ("trainer__latency_repeats", 0),
        ("trainer__threads", 0),
        ("trainer__threads", 100_000),
        ("seed", -1),
    ],
)
def test_the_message_names_key_and_value(key, value):
    with pytest.raises(UserError) as refused:
        check_config(changed(**{key: value}))
    assert str(refused.value).startswith(key.replace("__", "."))
    assert str(value) in str(refused.value)


@pytest.mark.parametrize(
    ("value", "hint", "limit", "rule"),
    [
        (0, int, COUNT, "at least 1"),
        (0.0, float, POSITIVE, "greater than 0"),
        (1.0, float, Limit(0, 1, below=True), "at least 0 and less than 1"),
        (65536, int, PORT, "at least 1 and at most 65535"),
        (2**32, int, SEED, "at least 0 and less than 4294967296"),
        ("1", int | None, None, "an integer"),
        (1, bool, None, "true or false"),
        (True, float, None, "a finite number"),
        (1, str, None, "a string"),
        ("a\0", str, None, "without NUL"),
    ],
)
def test_the_message_has_the_rule(value, hint, limit, rule):
    with pytest.raises(UserError, match=f"^key: must be {re.escape(f'{rule} but got {value!r}')}$"):
        check_value("key", value, hint, limit)


def test_what_the_rules_allow_passes():
    for value, hint, limit in ((None, int | None, COUNT), (1, int, PORT), (65535, int, PORT), (2**32 - 1, int, SEED)):
        check_value("key", value, hint, limit)


@dataclass
class Part:
    known: int = 1


@dataclass
class Whole:
    part: Part = field(default_factory=Part)
    none: Part | None = None
    missing: Part = MISSING
    same: Part = "${part}"


def test_keys_that_nothing_reads_are_refused_at_every_depth():
    config = OmegaConf.structured(Whole)
    check_keys(config)
    OmegaConf.update(config, "part.knwon", 2, force_add=True)
    with pytest.raises(UserError, match=r"^part\.knwon: there is no such key; did you mean known\? part has known$"):
        check_keys(config)
    config = OmegaConf.structured(Whole)
    OmegaConf.update(config, "prat", 1, force_add=True)
    with pytest.raises(UserError, match=r"^prat: .*the config has part, none, missing, same$"):
        check_keys(config)


def test_train_checks_first():
    with pytest.raises(UserError, match=r"trainer\.epochs"):
        train(changed(trainer__epochs=0), None, "cpu")


@pytest.mark.parametrize("metrics", [[], ["lae95"]])
def test_objectives_are_checked(metrics):
    with pytest.raises(UserError, match=r"objective\.metrics.*lae99"):
        check_config(replace(GOOD, objective=replace(GOOD.objective, metrics=metrics)))


def test_schedule_free_sgd_needs_momentum():
    values = {"surrogate__optimizer": "sgd", "surrogate__momentum": 0.0}
    check_config(changed(**values, surrogate__scheduler="cosine"))
    check_config(changed(**values | {"surrogate__momentum": 0.5}, surrogate__scheduler="schedulefree"))
    with pytest.raises(UserError, match=r"momentum.*schedulefree"):
        check_config(changed(**values, surrogate__scheduler="schedulefree"))


def test_the_defaults_and_the_borders_pass():
    check_config(GOOD)
    check_config(changed(trainer__target_percentile=100.0, trainer__threads=None, surrogate__eta_min=1.0, seed=0))
