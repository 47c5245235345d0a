"""The linear layer against PyTorch's own, on both sides of the size from which oneDNN multiplies."""

import pytest
import torch
from torch import nn

from codes.surrogates import products
from codes.surrogates.products import FEWEST, Linear, affine, gradient_of_input, gradient_of_weight, is_large

SHAPES = [((8, 101), 32, 64), ((1000,), 150, 150), ((6464,), 5, 32), ((6464,), 32, 5), ((7,), 3, 4)]


@pytest.fixture(autouse=True)
def not_intel(monkeypatch):
    """oneDNN is right on every processor, whoever made it."""
    monkeypatch.setattr(products, "MKL_IS_SLOW", True)


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
