"""Derivatives by all arguments are right; derivatives of derivatives too, or refused."""

import copy

import pytest
import torch
from torch.nn.functional import mse_loss

from codes.surrogates import products
from tests.surrogates.cases import inputs, surrogate

WIDE = {
    "FullyConnected": {"hidden_size": 64},
    "MultiONet": {"hidden_size": 64, "params_branch": False},  # so that the trunk sees every pair
    "LatentPoly": {"coder_width": 64},
    "LatentNeuralODE": {"coder_width": 64},
}
TWICE = [family for family in WIDE if family != "LatentNeuralODE"]


@pytest.fixture(autouse=True)
def not_intel(monkeypatch):
    """As on a processor for which oneDNN multiplies."""
    monkeypatch.setattr(products, "MKL_IS_SLOW", True)
    monkeypatch.setattr(products, "FEWEST", 2**19)


def large(family, activation="Tanh"):
    """A model and inputs for which every shortcut is taken, and the same in float64, for which none is."""
    model = surrogate(family, 2, activation=activation, **WIDE[family])
    x0, t, p = inputs(64, 50, 2)
    return model, (x0, t, p)


@pytest.mark.parametrize("is_training", [True, False])
@pytest.mark.parametrize("family", WIDE)
def test_first_derivatives_are_those_of_the_plain_operations(family, is_training):
    model, arguments = large(family)
    derivatives = []
    for one, dtype in ((model, torch.float32), (copy.deepcopy(model).double(), torch.float64)):
        own = [value.clone().to(dtype).requires_grad_() for value in arguments]
        one.train(is_training and dtype == torch.float32)(*own).square().sum().backward()
        derivatives.append([value.grad.double() for value in own])
    for ours, expected in zip(*derivatives, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-3, atol=1e-3 * expected.abs().max().item())


def second_derivative(model, x0, t, p):
    """Of a sum of the prediction by the states, twice in their first column."""
    x0 = x0.clone().requires_grad_()
    (first,) = torch.autograd.grad(model(x0, t, p).square().sum(), x0, create_graph=True)
    (second,) = torch.autograd.grad(first[:, 0].sum(), x0)
    return second


@pytest.mark.parametrize("activation", ["Tanh", "GELU"])
@pytest.mark.parametrize("family", TWICE)
def test_in_evaluation_mode_second_derivatives_are_those_of_the_plain_operations(family, activation):
    model, arguments = large(family, activation)
    model.eval()
    expected = second_derivative(copy.deepcopy(model).double(), *(value.double() for value in arguments))
    ours = second_derivative(model, *arguments)
    torch.testing.assert_close(ours.double(), expected, rtol=1e-3, atol=1e-3 * expected.abs().max().item())


@pytest.mark.parametrize("family", ["FullyConnected", "LatentPoly"])
def test_in_training_mode_they_are_refused(family):
    model, arguments = large(family)
    with pytest.raises(RuntimeError, match=r"create_graph.*eval\(\)"):
        second_derivative(model.train(), *arguments)


@pytest.mark.parametrize("is_training", [True, False])
def test_a_solution_of_an_ode_has_first_derivatives_only(is_training):
    model, arguments = large("LatentNeuralODE")
    with pytest.raises(RuntimeError, match="create_graph"):
        second_derivative(model.train(is_training), *arguments)


def test_squared_errors_with_their_own_gradient_have_first_ones_only():
    model = surrogate("LatentPoly", derivative_weight=1.0)
    x0, t, _ = inputs(4, 6)
    loss = model.loss(x0, t, None, torch.zeros(4, 6, x0.shape[1]), mse_loss)
    with pytest.raises(RuntimeError, match="your own criterion"):
        torch.autograd.grad(loss, list(model.parameters()), create_graph=True)
