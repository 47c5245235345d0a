"""LatentNeuralODE and its solver against known solutions, and against systems that no solver survives."""

import pytest
import torch
from torch.nn.functional import mse_loss

from codes.surrogates import SolverFailure
from codes.surrogates.latent_neural_ode import solve
from tests.surrogates.cases import inputs, surrogate

MATRIX = torch.tensor([[-1.0, 4.0, 0.0], [-4.0, -1.0, 0.5], [0.0, 0.0, -2.0]], dtype=torch.float64)
TIGHT = {"rtol": 1e-9, "atol": 1e-9, "max_steps": 1000}
LOOSE = {"rtol": 1e-4, "atol": 1e-4, "max_steps": 200}


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def propagators(t):
    return torch.linalg.matrix_exp(t[:, None, None] * MATRIX)


def test_linear_system_follows_the_matrix_exponential():
    z0, t, _ = (value if value is None else value.double() for value in inputs(4, 7))
    z = solve(lambda _, z: z @ MATRIX.T, z0, t, **TIGHT)
    torch.testing.assert_close(z, torch.einsum("tij,bj->bti", propagators(t), z0), rtol=1e-6, atol=1e-7)


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


def test_gradients_are_those_of_the_exact_solution():
    rate = torch.tensor(3.0, dtype=torch.float64, requires_grad=True)
    z0 = torch.tensor([[0.5], [2.0]], dtype=torch.float64, requires_grad=True)
    t = torch.tensor([0.2, 1.0, 0.7], dtype=torch.float64)
    solve(lambda _, z: -rate * z, z0, t, **TIGHT).sum().backward()
    decay = torch.exp(-3.0 * t)
    torch.testing.assert_close(z0.grad, decay.sum().expand(2, 1), rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(rate.grad, (-t * decay).sum() * 2.5, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("t", [[0.0], [0.0, 0.0], [1.0], [0.5, 0.0, 0.5], [0.3, 1.5]])
def test_any_times_may_be_asked_for(t):
    t = torch.tensor(t)
    z = solve(lambda _, z: -z, torch.ones(2, 1), t, rtol=1e-6, atol=1e-6, max_steps=100)
    torch.testing.assert_close(z[..., 0], torch.exp(-t).expand(2, -1), rtol=1e-4, atol=1e-5)


def test_bounded_right_hand_side_is_the_scaled_tanh_of_the_network():
    model = surrogate("LatentNeuralODE", ode_tanh_reg=True)
    z = torch.randn(4, model.config.latent_features) * 100
    dz = model.right_hand_side(None)(torch.zeros(4), z)
    assert torch.equal(dz, model.scale * torch.tanh(model.network(z)))
    assert dz.abs().max() <= model.scale


def test_parameters_enter_the_encoder_or_the_right_hand_side():
    x0, _, p = inputs(4, 6, 2)
    encoded = surrogate("LatentNeuralODE", 2, encode_params=True)
    assert not torch.equal(encoded.encode(x0, p), encoded.encode(x0, -p))
    model = surrogate("LatentNeuralODE", 2, encode_params=False)
    z0 = model.encode(x0, p)
    assert torch.equal(z0, model.encode(x0, -p))
    assert not torch.equal(model.right_hand_side(p)(None, z0), model.right_hand_side(-p)(None, z0))


@pytest.mark.parametrize(
    ("rhs", "reason"),
    [
        pytest.param(lambda _, z: -1e6 * (z - torch.sin(100 * z)), "reached max steps", id="stiff"),
        pytest.param(lambda _, z: z.square() * 10, "infinite norm|reached max steps", id="blow-up"),
        pytest.param(lambda _, z: torch.sqrt(-z), "infinite norm", id="not a number"),
        pytest.param(lambda _, z: z * 1e38, "infinite norm|reached max steps", id="overflow"),
    ],
)
def test_a_solver_that_gives_up_says_so(rhs, reason):
    with pytest.raises(SolverFailure, match=f"gave up on 2 of 2 trajectories: ({reason})"):
        solve(rhs, torch.ones(2, 3), torch.linspace(0, 1, 5), **LOOSE)


def test_one_bad_trajectory_is_counted():
    z0 = torch.tensor([[1.0], [torch.nan], [1.0]])
    with pytest.raises(SolverFailure, match="gave up on 1 of 3 trajectories"):
        solve(lambda _, z: -z, z0, torch.ones(1), **LOOSE)


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


def test_gradients_are_the_same_bit_for_bit_on_two_threads(two_threads):
    # Large enough that PyTorch would share the work of an indexing gradient between the threads.
    generator = torch.Generator().manual_seed(0)
    z0 = torch.rand(100, 20, generator=generator)
    weight = torch.randn(100, 101, 20, generator=generator)

    def gradient():
        start = z0.clone().requires_grad_()
        z = solve(lambda _, z: -0.1 * z, start, torch.linspace(0, 1, 101), rtol=1e-2, atol=1e-2, max_steps=50)
        (z * weight).sum().backward()
        return start.grad

    first = gradient()
    assert all(torch.equal(first, gradient()) for _ in range(3))
