"""Networks that the families share: how many layers, and what their weights start from."""

import math

import pytest
import torch
from torch import nn

from codes.surrogates.layers import ConditionedMLP, mlp
from codes.surrogates.products import Linear

GAINS = {"ReLU": math.sqrt(2), "GELU": math.sqrt(2), "ELU": 1.0, "CELU": 1.0, "SELU": 0.75}  # docs/surrogates.md


def gain(layer):
    """Standard deviation of the weights, times sqrt(fan_in)."""
    return layer.weight.std().item() * math.sqrt(layer.in_features)


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_a_network_has_as_many_hidden_layers_as_its_depth(depth):
    net = mlp(3, 2, width=7, depth=depth, activation="ReLU")
    assert [type(layer) for layer in net] == [Linear, nn.ReLU] * depth + [Linear]
    shapes = [tuple(layer.weight.shape) for layer in net if isinstance(layer, Linear)]
    assert shapes == [(7, 3), *[(7, 7)] * (depth - 1), (2, 7)]


@pytest.mark.parametrize("activation", GAINS)
def test_hidden_weights_start_with_the_gain_of_their_activation(activation):
    torch.manual_seed(0)
    net = ConditionedMLP(100, 200, 150, width=300, depth=2, activation=activation)
    hidden = [net.first, net.condition, net.rest[1]]
    assert [gain(layer) for layer in hidden] == pytest.approx([GAINS[activation]] * 3, rel=0.02)
    assert gain(net.rest[-1]) == pytest.approx(1 / math.sqrt(3), rel=0.02)  # an output, as PyTorch draws it
