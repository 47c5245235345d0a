"""The linear layer against PyTorch's own, on both sides of the size from which oneDNN multiplies."""

import pytest
import torch
from torch import nn

from codes.surrogates import onednn
from codes.surrogates.onednn import FEWEST, Linear, product_of_each

SHAPES = [((8, 101), 32, 64), ((1000,), 150, 150), ((6464,), 5, 32), ((6464,), 32, 5), ((7,), 3, 4)]


@pytest.fixture(autouse=True)
def not_intel(monkeypatch):
    """oneDNN is right on every processor, whoever made it."""
    monkeypatch.setattr(onednn, "MKL_IS_SLOW", True)


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
    layer = Linear(128, 64)
    rows = FEWEST // (128 * 64)
    on_x86 = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    assert layer.is_large(torch.randn(rows, 128)) is on_x86
    assert not layer.is_large(torch.randn(rows - 1, 128))
    monkeypatch.setattr(onednn, "MKL_IS_SLOW", False)
    assert not layer.is_large(torch.randn(rows, 128))
    monkeypatch.setattr(onednn, "MKL_IS_SLOW", True)
    assert not layer.double().is_large(torch.randn(rows, 128, dtype=torch.float64))


def test_the_product_of_each_model():
    layers = [Linear(64, 32) for _ in range(3)]
    weight, bias = (torch.stack([getattr(layer, name) for layer in layers]) for name in ("weight", "bias"))
    x = torch.randn(3, 5, 7, 64)
    for offset in (bias, None):
        products = product_of_each(x, weight, offset)
        for index, layer in enumerate(layers):
            expected = torch.nn.functional.linear(x[index], layer.weight, None if offset is None else layer.bias)
            torch.testing.assert_close(products[index], expected, rtol=1e-4, atol=1e-5)
