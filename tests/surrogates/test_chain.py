"""Chains of layers against PyTorch's own, on both sides of the size from which values are in place."""

import copy
import pickle

import pytest
import torch
from torch import nn

from codes.surrogates.chain import FEWEST, IN_PLACE, Chain
from codes.surrogates.layers import ConditionedMLP, mlp
from codes.surrogates.products import Linear

ACTIVATIONS = [name.partition("(")[0] for name in IN_PLACE]
WIDTH = 24
ROWS = FEWEST // WIDTH + 1


def gradients(call, *arguments):
    """Value, gradients by the arguments, and whatever the value is weighted with, of a call."""
    own = [argument.clone().requires_grad_() for argument in arguments]
    value = call(*own)
    weights = torch.linspace(-1, 1, value.numel()).view_as(value) / len(value)
    (value * weights).sum().backward()
    return [value.detach(), *(argument.grad for argument in own)]


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("rows", [7, ROWS])
def test_values_and_gradients_are_those_of_nn_sequential(activation, rows):
    torch.manual_seed(0)
    ours = mlp(3, 5, width=WIDTH, depth=3, activation=activation)
    assert ours.is_large(torch.empty(rows, 3), None) == (rows == ROWS)
    torchs = nn.Sequential(*copy.deepcopy(list(ours)))
    x = torch.randn(rows, 3)
    kept = x.clone()
    for one, other in zip(gradients(ours, x), gradients(torchs, x), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    for one, other in zip(ours.parameters(), torchs.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-4)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), torchs(x), rtol=1e-4, atol=1e-5)
    assert torch.equal(x, kept)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("n_models", [0, 2])
def test_a_shift_is_added_in_front_of_the_first_activation(activation, n_models):
    torch.manual_seed(0)
    net = ConditionedMLP(1, 2, 3, width=WIDTH, depth=2, activation=activation)
    leading = (n_models,) if n_models else ()
    if n_models:
        for layer in list(net.rest)[1::2]:
            layer.weight, layer.bias = (
                nn.Parameter(torch.randn(n_models, *value.shape)) for value in (layer.weight, layer.bias)
            )
    n = int(ROWS**0.5) + 1
    x, shift = torch.randn(*leading, 1, n, WIDTH), torch.randn(*leading, n, 1, WIDTH)
    assert net.rest.is_large(x, shift)
    kept = x.clone(), shift.clone()
    ours = gradients(net.rest, x, shift)
    layers = nn.Sequential(*copy.deepcopy(list(net.rest)))
    for one, other in zip(ours, gradients(lambda x, shift: layers(x + shift), x, shift), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)
    for one, other in zip(net.rest.parameters(), layers.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-3, atol=1e-3)
    with torch.no_grad():
        torch.testing.assert_close(net.rest(x, shift), ours[0])
    assert torch.equal(x, kept[0])
    assert torch.equal(shift, kept[1])


@pytest.mark.parametrize("activation", [*ACTIVATIONS, "GELU"])
@pytest.mark.parametrize("n_models", [0, 2])
@pytest.mark.parametrize("n_means", [3, 60])
def test_means_of_points_are_what_the_chain_makes_of_each_of_them(activation, n_models, n_means):
    torch.manual_seed(0)
    net = mlp(3, 5, width=WIDTH, depth=2, activation=activation)
    leading = (n_models,) if n_models else ()
    if n_models:
        for layer in list(net)[::2]:
            layer.weight, layer.bias = (
                nn.Parameter(torch.randn(n_models, *value.shape)) for value in (layer.weight, layer.bias)
            )
    n = ROWS // 60 + 1
    points = torch.randn(*leading, n, 4, 3)
    shares = torch.randn(*leading, 1, n_means, 4) if n_models else torch.randn(n_means, 4)
    shares = shares / shares.sum(-1, keepdim=True).clamp(min=1)
    shares[..., 0] += 1 - shares.sum(-1)
    assert net.is_large(points, None, shares) == (n_means == 60)
    layers = nn.Sequential(*copy.deepcopy(list(net)))
    ours = gradients(lambda x: net(x, shares=shares), points)
    for one, other in zip(ours, gradients(lambda x: layers(shares @ x), points), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)
    for one, other in zip(net.parameters(), layers.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-3, atol=2e-3)
    with torch.no_grad():
        torch.testing.assert_close(net(points, shares=shares), ours[0])


def test_shares_that_are_learned_have_their_gradient():
    torch.manual_seed(0)
    net = mlp(3, 5, width=WIDTH, depth=2, activation="ReLU")
    points, shares = torch.randn(ROWS // 60 + 1, 4, 3), torch.rand(60, 4)
    shares = shares / shares.sum(-1, keepdim=True)
    assert net.is_large(points, None, shares)
    layers = nn.Sequential(*copy.deepcopy(list(net)))
    ours = gradients(lambda points, shares: net(points, shares=shares), points, shares)
    theirs = gradients(lambda points, shares: layers(shares @ points), points, shares)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)


def test_an_argument_that_is_activated_first_stays_as_it_was():
    chain = ConditionedMLP(1, 0, 3, width=WIDTH, depth=2, activation="ReLU").rest
    x = torch.randn(ROWS, WIDTH)
    kept = x.clone()
    with torch.no_grad():
        chain(x)
    assert torch.equal(x, kept)


def test_an_activation_with_arguments_of_its_own_keeps_them():
    net = Chain(Linear(2, WIDTH), nn.LeakyReLU(0.5), Linear(WIDTH, 1))
    x = torch.randn(ROWS, 2)
    assert torch.equal(net(x), nn.Sequential(*net)(x))


def test_in_evaluation_mode_gradients_of_gradients_exist():
    net = mlp(1, 1, width=WIDTH, depth=2, activation="Tanh").eval()
    x = torch.randn(ROWS, 1, requires_grad=True)
    (first,) = torch.autograd.grad(net(x).sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x)
    assert second.abs().max() > 0


def test_a_chain_can_be_copied_cut_and_pickled():
    net = mlp(2, 1, width=4, depth=2, activation="ReLU")
    x = torch.randn(FEWEST, 2)
    assert torch.equal(copy.deepcopy(net)(x), net(x))
    assert torch.equal(pickle.loads(pickle.dumps(net))(x), net(x))
    torch.testing.assert_close(net[2:](net[:2](x)), net(x))
    assert isinstance(net[2:], Chain)
    net[0] = Linear(2, 4)
    assert torch.equal(net(x), nn.Sequential(*net)(x))
