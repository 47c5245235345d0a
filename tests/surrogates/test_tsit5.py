"""The solver against known solutions, against torchode, and against systems that no solver survives."""

import pytest
import torch
import torchode

from codes.surrogates import SolverFailure
from codes.surrogates.base import Effort
from codes.surrogates.tsit5 import ERROR, POWERS, STAGES, integrate, solve
from tests.surrogates.cases import inputs, surrogate

MATRIX = torch.tensor([[-1.0, 4.0, 0.0], [-4.0, -1.0, 0.5], [0.0, 0.0, -2.0]], dtype=torch.float64)
TIGHT = {"rtol": 1e-9, "atol": 1e-9, "max_steps": 1000}
LOOSE = {"rtol": 1e-4, "atol": 1e-4, "max_steps": 200}
ONE = torch.ones(())


class LinearField:
    """dz/dt = A z."""

    def __init__(self, matrix):
        self.matrix = matrix
        self.parameters = [matrix]

    def __call__(self, z):
        return z @ self.matrix.T

    def linearised(self, z):
        return self(z), [(self.matrix.detach(), None)]


def decay(n_features=1, rate=1.0):
    return LinearField(-rate * torch.eye(n_features))


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_stages_and_interpolant_end_where_the_step_does():
    assert [sum(row) for row in POWERS] == pytest.approx([*STAGES[-1], 0.0], abs=1e-12)
    assert sum(ERROR) == pytest.approx(0, abs=1e-14)
    assert [sum(row) for row in STAGES] == pytest.approx([0.161, 0.327, 0.9, 0.9800255409045097, 1, 1])


def test_linear_system_follows_the_matrix_exponential():
    z0, t, _ = (value if value is None else value.double() for value in inputs(4, 7))
    propagators = torch.linalg.matrix_exp(t[:, None, None] * MATRIX)
    z = solve(LinearField(MATRIX), z0, t, **TIGHT)
    torch.testing.assert_close(z, torch.einsum("tij,bj->bti", propagators, z0), rtol=1e-6, atol=1e-7)


def test_gradients_are_those_of_the_exact_solution():
    rate = torch.tensor([[-3.0]], dtype=torch.float64, requires_grad=True)
    z0 = torch.tensor([[0.5], [2.0]], dtype=torch.float64, requires_grad=True)
    t = torch.tensor([0.2, 1.0, 0.7], dtype=torch.float64)
    solve(LinearField(rate), z0, t, **TIGHT).sum().backward()
    decay = torch.exp(-3.0 * t)
    torch.testing.assert_close(z0.grad, decay.sum().expand(2, 1), rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(rate.grad, (t * decay).sum().view(1, 1) * 2.5, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("rows_at_once", [1, 2**14])
@pytest.mark.parametrize(
    "changes",
    [{}, {"ode_tanh_reg": False}, {"activation": "Tanh", "encode_params": False}, {"activation": "SiLU"}],
    ids=lambda changes: "-".join(map(str, changes.values())),
)
def test_values_and_gradients_are_those_of_torchode(changes, rows_at_once, monkeypatch):
    monkeypatch.setattr("codes.surrogates.tsit5.ROWS", rows_at_once)
    model = surrogate("LatentNeuralODE", 2, rtol=1e-8, atol=1e-8, **changes).double()
    x0, t, p = (value.double() for value in inputs(6, 9, 2))
    start = model.encode(x0, p).detach()
    results = []
    for evolve in (model.evolve, by_torchode(model)):
        model.zero_grad()
        z0 = start.clone().requires_grad_()
        z = evolve(z0, t, p)
        (z * torch.linspace(1, 2, z.numel(), dtype=z.dtype).view_as(z)).sum().backward()
        weights = {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}
        results.append({"z": z.detach(), "z0": z0.grad, **weights})
    assert len(results[0]) > 8
    torch.testing.assert_close(results[0], results[1], rtol=1e-9, atol=1e-9)


def by_torchode(model):
    def evolve(z0, t, p):
        rhs = model.right_hand_side(p)
        term = torchode.ODETerm(lambda _, z: rhs(z))
        control = torchode.IntegralController(model.config.atol, model.config.rtol, term=term)
        solver = torchode.AutoDiffAdjoint(torchode.Tsit5(term), control, backprop_through_step_size_control=False)
        n = len(z0)
        problem = torchode.InitialValueProblem(z0, t.new_zeros(n), t.new_ones(n), t.expand(n, -1))
        return solver.solve(problem, term).ys

    return evolve


@pytest.mark.parametrize("t", [[0.0], [0.0, 0.0], [1.0], [0.5, 0.0, 0.5], [0.3, 1.5]])
def test_any_times_may_be_asked_for(t):
    t = torch.tensor(t)
    z = solve(decay(), torch.ones(2, 1), t, rtol=1e-6, atol=1e-6, max_steps=100)
    torch.testing.assert_close(z[..., 0], torch.exp(-t).expand(2, -1), rtol=1e-4, atol=1e-5)


def test_each_trajectory_has_steps_of_its_own():
    z0 = torch.tensor([[1.0, 0.0], [1e-3, 0.0]])
    steps = integrate(LinearField(torch.tensor([[0.0, 20.0], [-20.0, 0.0]])), z0, ONE, **LOOSE)
    counts = steps.t.isfinite().sum(0)
    assert counts[0] > counts[1] > 0
    assert len(steps.t) == counts.max() + 1
    torch.testing.assert_close(steps.dt.sum(0), torch.ones(2))


def solution(field, effort):
    """States, their gradient by the initial ones, and the field's by its weights."""
    z0 = torch.tensor([[1.0, 0.0], [1e-3, 0.0], [0.3, -0.5]], requires_grad=True)
    t = torch.tensor([0.0, 0.4, 1.0])
    z = solve(field, z0, t, **LOOSE, effort=effort)
    return (z, *torch.autograd.grad(z.square().sum(), [z0, *field.parameters]))


def test_a_fixed_number_of_steps_gives_the_same_if_it_suffices_and_nan_if_not():
    field = LinearField(torch.tensor([[0.0, 20.0], [-20.0, 0.0]], requires_grad=True))
    effort = Effort()
    expected = solution(field, effort)
    needed = effort.needed
    assert needed > 8
    effort.fixed = needed + 3
    for value, other in zip(solution(field, effort), expected, strict=True):
        torch.testing.assert_close(value, other)
    assert effort.needed == needed
    effort.fixed = 6
    states = solution(field, effort)[0]
    assert states[0].isnan().all()  # at early times too: their step may end after the last one


@pytest.mark.parametrize(
    ("rhs", "reason"),
    [
        pytest.param(lambda z: -1e6 * (z - torch.sin(100 * z)), "reached max steps", id="stiff"),
        pytest.param(lambda z: z.square() * 10, "infinite norm|reached max steps", id="blow-up"),
        pytest.param(lambda z: torch.sqrt(-z), "infinite norm", id="not a number"),
        pytest.param(lambda z: z * 1e38, "infinite norm|reached max steps", id="overflow"),
    ],
)
def test_a_solver_that_gives_up_says_so(rhs, reason):
    with pytest.raises(SolverFailure, match=f"gave up on 2 of 2 trajectories: ({reason})"):
        integrate(rhs, torch.ones(2, 3), ONE, **LOOSE)


def test_one_bad_trajectory_is_counted():
    z0 = torch.tensor([[1.0], [torch.nan], [1.0]])
    with pytest.raises(SolverFailure, match="gave up on 1 of 3 trajectories"):
        solve(decay(), z0, torch.ones(1), **LOOSE)


def test_gradients_are_the_same_bit_for_bit_on_two_threads(two_threads):
    # Large enough that PyTorch would share the work of an indexing gradient between the threads.
    generator = torch.Generator().manual_seed(0)
    z0 = torch.rand(100, 20, generator=generator)
    weight = torch.randn(100, 101, 20, generator=generator)

    def gradient():
        start = z0.clone().requires_grad_()
        z = solve(decay(20, 0.1), start, torch.linspace(0, 1, 101), rtol=1e-2, atol=1e-2, max_steps=50)
        (z * weight).sum().backward()
        return start.grad

    first = gradient()
    assert all(torch.equal(first, gradient()) for _ in range(3))
