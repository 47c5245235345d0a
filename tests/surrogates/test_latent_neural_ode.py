"""LatentNeuralODE against known solutions, and with weights that no solver survives."""

import pytest
import torch
from torch.nn.functional import mse_loss

from codes.surrogates import SolverFailure
from tests.surrogates.cases import inputs, surrogate

MATRIX = torch.tensor([[-1.0, 4.0, 0.0], [-4.0, -1.0, 0.5], [0.0, 0.0, -2.0]], dtype=torch.float64)


def propagators(t):
    return torch.linalg.matrix_exp(t[:, None, None] * MATRIX)


def test_hand_set_network_follows_the_matrix_exponential():
    # LeakyReLU(y) - LeakyReLU(-y) = 1.01 y, so two neurons with opposite weights pass a value on.
    model = surrogate("LatentNeuralODE", latent_features=3, ode_layers=1, ode_width=6, ode_tanh_reg=False,
                      activation="LeakyReLU", rtol=1e-6, atol=1e-6)  # fmt: skip
    first, last = model.network.first, model.network.rest[-1]
    identity = torch.eye(3)
    with torch.no_grad():
        first.weight.copy_(torch.cat([identity, -identity]))
        last.weight.copy_(torch.cat([MATRIX, -MATRIX], dim=1) / 1.01)
        first.bias.zero_()
        last.bias.zero_()
    z0, t, _ = inputs(4, 7)
    expected = torch.einsum("tij,bj->bti", propagators(t.double()).float(), z0)
    torch.testing.assert_close(model.evolve(z0, t, None), expected, rtol=1e-4, atol=1e-5)


def test_bounded_right_hand_side_is_the_scaled_tanh_of_the_network():
    model = surrogate("LatentNeuralODE", ode_tanh_reg=True)
    z = torch.randn(4, model.config.latent_features) * 100
    dz = model.right_hand_side(None)(z)
    assert torch.equal(dz, model.scale * torch.tanh(model.network(z)))
    assert dz.abs().max() <= model.scale


def test_parameters_enter_the_encoder_or_the_right_hand_side():
    x0, _, p = inputs(4, 6, 2)
    encoded = surrogate("LatentNeuralODE", 2, encode_params=True)
    assert not torch.equal(encoded.encode(x0, p), encoded.encode(x0, -p))
    model = surrogate("LatentNeuralODE", 2, encode_params=False)
    z0 = model.encode(x0, p)
    assert torch.equal(z0, model.encode(x0, -p))
    assert not torch.equal(model.right_hand_side(p)(z0), model.right_hand_side(-p)(z0))


def test_exploding_weights_fail_in_training_and_prediction():
    model = surrogate("LatentNeuralODE", ode_tanh_reg=False)
    with torch.no_grad():
        for weight in model.network.parameters():
            weight.mul_(1e4)
    x0, t, _ = inputs(4, 6)
    with pytest.raises(SolverFailure):
        model.loss(x0, t, None, torch.zeros(4, 6, 3), mse_loss)
    with pytest.raises(SolverFailure), torch.no_grad():
        model(x0, t)
