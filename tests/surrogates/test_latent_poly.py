"""LatentPoly with coefficients set by hand."""

import pytest
import torch
from numpy.polynomial import Chebyshev

from codes.surrogates.latent_poly import polynomial_basis
from tests.surrogates.cases import inputs, surrogate


@pytest.mark.parametrize("degree", [1, 2, 9])
def test_bases_begin_with_one_and_vanish_at_time_zero(degree):
    t = torch.linspace(0, 1, 13, dtype=torch.float64)
    for kind in ("chebyshev", "powers"):
        basis = polynomial_basis(t, degree, kind)
        assert basis.shape == (13, 1 + degree)
        assert torch.equal(basis[:, 0], torch.ones_like(t))
        assert torch.equal(basis[0, 1:], torch.zeros(degree, dtype=torch.float64))
        for k in range(1, degree + 1):
            expected = t**k
            if kind == "chebyshev":
                chebyshev = Chebyshev.basis(k, domain=[0, 1])
                expected = torch.from_numpy(chebyshev(t.numpy()) - chebyshev(0.0))
            torch.testing.assert_close(basis[:, k], expected)


def test_hand_set_coefficients_give_the_parabola():
    # t = phi_1 / 2 and t^2 = phi_2 / 8 + phi_1 / 2, so 3 t + 4 t^2 = 3.5 phi_1 + 0.5 phi_2
    model = surrogate("LatentPoly", degree=2, latent_features=2)
    with torch.no_grad():
        model.coefficients.weight.zero_()
        model.coefficients.bias.copy_(torch.tensor([3.5, 0.0, 0.5, 1.0]))
    z0, t, _ = inputs(4, 6, n_quantities=2)
    z = model.evolve(z0, t, None)
    torch.testing.assert_close(z[..., 0], z0[:, :1] + 3 * t + 4 * t**2)
    torch.testing.assert_close(z[..., 1], z0[:, 1:] + 8 * t**2 - 8 * t)


def test_hand_set_coefficients_of_powers_are_those_of_the_parabola():
    model = surrogate("LatentPoly", degree=2, latent_features=2, basis="powers")
    with torch.no_grad():
        model.coefficients.weight.zero_()
        model.coefficients.bias.copy_(torch.tensor([3.0, 0.0, 4.0, 1.0]))
    z0, t, _ = inputs(4, 6, n_quantities=2)
    z = model.evolve(z0, t, None)
    torch.testing.assert_close(z[..., 0], z0[:, :1] + 3 * t + 4 * t**2)
    torch.testing.assert_close(z[..., 1], z0[:, 1:] + t**2)


def test_coefficients_follow_the_state_linearly():
    model = surrogate("LatentPoly", degree=1, latent_features=2)
    with torch.no_grad():
        model.coefficients.weight.copy_(torch.tensor([[0.0, 1.0], [0.5, 0.0]]))
        model.coefficients.bias.zero_()
    z0, t, _ = inputs(4, 6, n_quantities=2)
    expected = z0[:, None] + 2 * t[:, None] * (z0.flip(1) * torch.tensor([1.0, 0.5]))[:, None]
    torch.testing.assert_close(model.evolve(z0, t, None), expected)


def test_a_coefficient_network_takes_the_parameters_from_the_encoder():
    x0, t, p = inputs(4, 6, 2)
    with_network = surrogate("LatentPoly", 2, coeff_network=True)
    assert torch.equal(with_network.encode(x0, p), with_network.encode(x0, -p))
    assert not torch.equal(with_network(x0, t, p), with_network(x0, t, -p))
    without = surrogate("LatentPoly", 2, coeff_network=False)
    assert not torch.equal(without.encode(x0, p), without.encode(x0, -p))


@pytest.mark.parametrize("basis", ["chebyshev", "powers"])
def test_states_are_those_that_the_decoder_makes_of_latent_ones(basis):
    model = surrogate("LatentPoly", 2, degree=5, basis=basis, coder_width=32)
    x0, t, p = inputs(128, 101, 2)
    z0 = model.encode(x0, p)
    assert model.train().decoder.is_large(model.points(z0, p), None, model.shares(t))
    decoded = model.decoder(model.evolve(z0, t, p))
    torch.testing.assert_close(model(x0, t, p), decoded, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model.evolve(z0, torch.zeros(1), p)[:, 0], z0)
