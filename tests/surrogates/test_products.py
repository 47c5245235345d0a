"""The linear layer against PyTorch's own, on both sides of the size from which oneDNN multiplies."""

import pytest
import torch
from torch import nn

from codes.surrogates import products
from codes.surrogates.layers import mlp
from codes.surrogates.products import (
    FEWEST_COARSE,
    NARROWEST_COARSE,
    Linear,
    affine,
    coarse_gradients,
    gradient_of_input,
    gradient_of_weight,
    is_coarse,
    is_large,
)

FEWEST = 2**19
SHAPES = [((8, 101), 32, 64), ((1000,), 150, 150), ((6464,), 5, 32), ((6464,), 32, 5), ((7,), 3, 4)]


@pytest.fixture(autouse=True)
def not_intel(monkeypatch):
    """oneDNN is right on every processor, whoever made it."""
    monkeypatch.setattr(products, "MKL_IS_SLOW", True)
    monkeypatch.setattr(products, "FEWEST", FEWEST)


@pytest.mark.parametrize(("rows", "n_in", "n_out"), SHAPES)
@pytest.mark.parametrize("bias", [True, False])
def test_values_and_gradients_are_those_of_torch_to_rounding(rows, n_in, n_out, bias):
    torch.manual_seed(0)
    ours, torchs = Linear(n_in, n_out, bias=bias), nn.Linear(n_in, n_out, bias=bias)
    torchs.load_state_dict(ours.state_dict())
    x, weight = torch.randn(*rows, n_in), torch.randn(*rows, n_out) / rows[0] ** 0.5
    gradients = []
    for layer in (ours, torchs):
        own = x.clone().requires_grad_()
        y = layer(own)
        (y * weight).sum().backward()
        gradients.append([y.detach(), own.grad, *(parameter.grad for parameter in layer.parameters())])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_large_layers_are_multiplied_by_onednn_where_mkl_is_slow(monkeypatch):
    weight = torch.randn(64, 128)
    rows = FEWEST // (128 * 64)
    on_x86 = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    assert is_large(torch.randn(rows, 128), weight) is on_x86
    assert not is_large(torch.randn(rows - 1, 128), weight)
    monkeypatch.setattr(products, "MKL_IS_SLOW", False)
    assert not is_large(torch.randn(rows, 128), weight)
    monkeypatch.setattr(products, "MKL_IS_SLOW", True)
    assert not is_large(torch.randn(rows, 128, dtype=torch.float64), weight.double())


def test_the_products_of_each_model():
    weight, bias, rows, gradient = (torch.randn(3, *shape) for shape in ((32, 64), (32,), (35, 64), (35, 32)))
    for model in range(3):
        w, b, x, g = (value[model] for value in (weight, bias, rows, gradient))
        torch.testing.assert_close(affine(rows, weight, bias)[model], x @ w.t() + b, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(affine(rows, weight, None)[model], x @ w.t(), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(gradient_of_input(gradient, weight)[model], g @ w, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(gradient_of_weight(gradient, rows)[model], g.t() @ x, rtol=1e-4, atol=1e-5)


@pytest.fixture
def bfloat16(monkeypatch):
    """As on a processor with instructions for it; without, PyTorch computes the same slowly."""
    monkeypatch.setattr(products, "HAS_BFLOAT16", True)


@pytest.mark.parametrize("activation", ["ReLU", "GELU"])  # in place, and layer by layer
@pytest.mark.parametrize("mkl_is_slow", [True, False])
def test_coarse_gradients_round_factors_to_eight_bits_and_no_value(activation, mkl_is_slow, bfloat16, monkeypatch):
    monkeypatch.setattr(products, "MKL_IS_SLOW", mkl_is_slow)
    torch.manual_seed(0)
    net = mlp(5, 3, width=160, depth=4, activation=activation)
    x, results = torch.randn(1000, 5), {}
    for allowed in (False, True):
        net.zero_grad()
        own = x.clone().requires_grad_()
        value = net(own)
        with coarse_gradients(allowed):
            value.square().mean().backward()
        results[allowed] = value.detach(), [own.grad, *(parameter.grad.clone() for parameter in net.parameters())]
    assert torch.equal(results[False][0], results[True][0])
    errors = [
        ((coarse - fine).norm() / fine.norm()).item()
        for fine, coarse in zip(results[False][1], results[True][1], strict=True)
    ]
    assert max(errors) < 2**-6
    assert max(errors) > 2**-13  # float32 rounds to 24 bits


def test_gradients_are_coarse_where_that_is_allowed_and_pays_only(bfloat16, monkeypatch):
    n = NARROWEST_COARSE
    gradient, weight = torch.ones(FEWEST_COARSE // n**2, n), torch.ones(n, n)
    assert not is_coarse(gradient, weight)
    with coarse_gradients(True):
        assert is_coarse(gradient, weight)
        assert not is_coarse(gradient[1:], weight)
        assert not is_coarse(gradient.repeat(2, 1), weight[:, 1:])
        assert not is_coarse(gradient.double(), weight.double())
        assert not is_coarse(gradient.expand(2, -1, -1), weight.expand(2, -1, -1))
        with coarse_gradients(False):
            assert not is_coarse(gradient, weight)
        assert is_coarse(gradient, weight)
    monkeypatch.setattr(products, "HAS_BFLOAT16", False)
    with coarse_gradients(True):
        assert not is_coarse(gradient, weight)
