"""The loss of the latent families: each term on its own, against values known in advance."""

import pytest
import torch
from torch.nn.functional import mse_loss

from codes.errors import UserError
from codes.surrogates.latent import difference_rates
from tests.surrogates.cases import inputs, surrogate

LATENT = ["LatentPoly", "LatentNeuralODE"]
OFF = {"identity_weight": 0.0, "derivative_weight": 0.0, "curvature_weight": 0.0}
UNEVEN = torch.tensor([0.0, 0.1, 0.15, 0.4, 0.9, 1.0])


def test_derivatives_of_a_parabola_are_exact_on_an_uneven_grid():
    x = (3 * UNEVEN**2 - UNEVEN)[None, :, None]
    middle = (UNEVEN[1:] + UNEVEN[:-1]) / 2
    rates, times = difference_rates(UNEVEN, 1)
    first = torch.diff(x, dim=1) * rates
    torch.testing.assert_close(first, (6 * middle - 1)[None, :, None])
    torch.testing.assert_close(times, middle)
    rates, _ = difference_rates(times, 1)
    torch.testing.assert_close(torch.diff(first, dim=1) * rates, torch.full((1, 4, 1), 6.0), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", LATENT)
def test_prediction_at_time_zero_is_the_decoded_code(family):
    model = surrogate(family, 2)
    x0, _, p = inputs(4, 1, 2)
    torch.testing.assert_close(model(x0, torch.zeros(1), p)[:, 0], model.decoder(model.encode(x0, p)))


@pytest.mark.parametrize("family", LATENT)
def test_without_weights_the_loss_is_the_criterion_of_the_prediction(family):
    model = surrogate(family, **OFF)
    x0, t, _ = inputs(4, 6)
    x = torch.randn(4, 6, 3)
    assert torch.equal(model.loss(x0, t, None, x, mse_loss), mse_loss(model(x0, t), x))


@pytest.mark.parametrize("family", LATENT)
def test_identity_term_compares_the_decoded_code_with_the_state(family):
    model = surrogate(family, **{**OFF, "identity_weight": 2.0})
    x0, _, _ = inputs(4, 1)
    t = UNEVEN  # from 0, as a batch of whole trajectories
    perfect = model(x0, t).detach()
    expected = 2 * mse_loss(model.decoder(model.encode(x0, None)), x0)
    torch.testing.assert_close(model.loss(x0, t, None, perfect, mse_loss), expected)


@pytest.mark.parametrize("family", LATENT)
@pytest.mark.parametrize(("key", "order"), [("derivative_weight", 1), ("curvature_weight", 2)])
def test_derivative_terms_vanish_for_a_perfect_prediction(family, key, order):
    model = surrogate(family, **{**OFF, key: 1.0})
    x0, t, _ = inputs(4, 6)
    with torch.no_grad():
        assert model.loss(x0, t, None, model(x0, t), mse_loss) < 1e-12


@pytest.mark.parametrize("family", LATENT)
@pytest.mark.parametrize(
    ("key", "derivative"),
    [("derivative_weight", 3 * (UNEVEN[1:] + UNEVEN[:-1])), ("curvature_weight", torch.full((4,), 6.0))],
)
def test_derivative_terms_of_a_constant_prediction_are_the_scaled_truth(family, key, derivative):
    model = surrogate(family, **{**OFF, key: 0.5})
    with torch.no_grad():
        model.decoder[-1].weight.zero_()
    x0, _, _ = inputs(4, 1)
    x = (3 * UNEVEN**2)[None, :, None].expand(4, -1, 3)
    square = derivative.square().mean()
    expected = mse_loss(model(x0, UNEVEN), x) + 0.5 * square / (1 + square)
    torch.testing.assert_close(model.loss(x0, UNEVEN, None, x, mse_loss), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("weights", [(0.0, 0.3, 0.7), (2.0, 0.3, 0.0), (2.0, 0.0, 0.7), (0.5, 0.3, 0.7)])
def test_squared_errors_by_their_own_way_are_what_any_criterion_gives(weights):
    model = surrogate("LatentPoly", **dict(zip(OFF, weights, strict=True)))
    x0, _, _ = inputs(4, 1)
    x = torch.randn(4, 6, 3, generator=torch.Generator().manual_seed(1))
    found = []
    for criterion in (mse_loss, lambda prediction, truth: mse_loss(prediction, truth)):
        loss = 3 * model.loss(x0, UNEVEN, None, x, criterion)  # a gradient that is not 1
        found.append((loss, *torch.autograd.grad(loss, model.parameters())))
    for own, general in zip(*found, strict=True):
        torch.testing.assert_close(own, general, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("key", "n_timesteps"), [("derivative_weight", 1), ("curvature_weight", 2)])
def test_derivatives_need_enough_timesteps(key, n_timesteps):
    with pytest.raises(UserError, match=f"surrogate.{key}: must be 0 for a dataset of {n_timesteps} timesteps"):
        surrogate("LatentPoly", n_timesteps=n_timesteps, **{key: 1.0})
