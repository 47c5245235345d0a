"""Hyperparameters that no surrogate accepts: one message with the key, the rule and the value."""

import math
import re

import pytest

from codes.errors import UserError
from codes.schema import DataSpec, MultiONetConfig, SurrogateConfig
from codes.surrogates import SURROGATES, build
from tests.surrogates.cases import FAMILIES, config, surrogate

SHARED = [
    ("activation", "Swish", "one of CELU, ELU, GELU, "),
    ("learning_rate", 0.0, "at least 1e-30"),
    ("learning_rate", math.nan, "a finite number"),
    ("learning_rate", "big", "a finite number"),
    ("regularization_factor", -1e-3, "at least 0"),
    ("momentum", 1.0, "at least 0 and less than 1"),
    ("poly_power", 0.0, "at least 1e-30"),
    ("eta_min", 1.5, "at least 0 and at most 1"),
    ("beta", -1.0, "at least 1e-30"),
    ("optimizer", "adam", "one of adamw, sgd"),
]
COUNTS = {
    "MultiONet": ["branch_hidden_layers", "trunk_hidden_layers", "hidden_size", "output_factor"],
    "FullyConnected": ["hidden_size", "num_hidden_layers"],
    "LatentPoly": ["latent_features", "coder_layers", "coder_width", "degree", "coeff_width", "coeff_layers"],
    "LatentNeuralODE": ["latent_features", "coder_layers", "coder_width", "ode_layers", "ode_width"],
}


def refused(family, key, value, rule):
    message = re.escape(f"surrogate.{key}: must be {rule}") + ".*" + re.escape(f" but got {value!r}")
    with pytest.raises(UserError, match=message):
        surrogate(family, **{key: value})


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("key", "value", "rule"), SHARED)
def test_shared_keys(family, key, value, rule):
    refused(family, key, value, rule)


@pytest.mark.parametrize(("family", "key"), [(family, key) for family, keys in COUNTS.items() for key in keys])
def test_counts(family, key):
    refused(family, key, 0, "at least 1")
    refused(family, key, 2.5, "an integer")
    refused(family, key, True, "an integer")


@pytest.mark.parametrize("family", ["LatentPoly", "LatentNeuralODE"])
@pytest.mark.parametrize("key", ["identity_weight", "derivative_weight", "curvature_weight"])
def test_loss_weights(family, key):
    refused(family, key, -0.1, "at least 0")


@pytest.mark.parametrize("key", ["rtol", "atol"])
def test_tolerances(key):
    refused("LatentNeuralODE", key, 0.0, "at least 1e-30")


def test_switches():
    refused("MultiONet", "params_branch", 1, "true or false")


def test_an_unset_key_says_where_defaults_are():
    with pytest.raises(UserError, match=r"surrogate.activation: must be set"):
        build(MultiONetConfig(name="MultiONet"), DataSpec(3, 0, 5))


def test_an_unknown_family_lists_the_known():
    with pytest.raises(UserError, match=f"surrogate.name: 'MultiOnet' is unknown; choose from {', '.join(SURROGATES)}"):
        build(SurrogateConfig(name="MultiOnet"), DataSpec(3, 0, 5))


@pytest.mark.parametrize("family", FAMILIES)
def test_whole_numbers_are_fine_where_a_float_is_meant(family):
    build(config(family, beta=1), DataSpec(3, 0, 5))
