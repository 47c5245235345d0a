"""Values out of range are refused before anything is spent."""

import math
from dataclasses import replace

import pytest

from codes.checks import check_config
from codes.errors import UserError
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
    with pytest.raises(UserError, match=r"momentum.*schedulefree"):
        check_config(changed(**values, surrogate__scheduler="schedulefree"))


def test_the_defaults_and_the_borders_pass():
    check_config(GOOD)
    check_config(changed(trainer__target_percentile=100.0, trainer__threads=None, surrogate__eta_min=1.0, seed=0))
