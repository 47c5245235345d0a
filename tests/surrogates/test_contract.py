"""What every surrogate promises, for every family in ``conf/surrogate``, with and without parameters."""

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn.functional import mse_loss

from codes.errors import UserError
from codes.schema import SURROGATE_SCHEMAS
from codes.surrogates import SURROGATES, Surrogate
from tests.surrogates.cases import FAMILIES, damped_oscillators, inputs, surrogate, switches

CASES = [
    pytest.param(family, n_parameters, changes, id=f"{family}-{n_parameters}-{'-'.join(map(str, changes.values()))}")
    for family in FAMILIES
    for n_parameters in (0, 2)
    for changes in switches(family)
]
# An adaptive solver repeats itself to its tolerance only: rounding that differs with the batch moves its steps.
EXACT = {"LatentNeuralODE": {"rtol": 1e-6, "atol": 1e-6}}
every_case = pytest.mark.parametrize(("family", "n_parameters", "changes"), CASES)
every_family = pytest.mark.parametrize("family", FAMILIES)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_registry_schemas_and_configs_have_the_same_families():
    assert FAMILIES == sorted(SURROGATES) == sorted(SURROGATE_SCHEMAS)


@every_case
@pytest.mark.parametrize(("n", "n_times"), [(5, 7), (1, 4), (3, 1), (1, 1)])
def test_prediction_has_the_shape_of_trajectories(family, n_parameters, changes, n, n_times):
    model = surrogate(family, n_parameters, **changes)
    assert isinstance(model, Surrogate)
    x0, t, p = inputs(n, n_times, n_parameters)
    prediction = model(x0, t, p)
    assert prediction.shape == (n, n_times, 3)
    assert prediction.dtype == torch.float32
    assert prediction.isfinite().all()


@every_case
def test_gradients_reach_every_weight(family, n_parameters, changes):
    model = surrogate(family, n_parameters, **changes)
    x0, t, p = inputs(4, 6, n_parameters)
    model.loss(x0, t, p, torch.randn(4, 6, 3), mse_loss).backward()
    for name, weight in model.named_parameters():
        assert weight.grad is not None and weight.grad.abs().max() > 0, name


@every_case
def test_a_state_depends_neither_on_other_times_nor_on_their_order(family, n_parameters, changes):
    model = surrogate(family, n_parameters, **changes, **EXACT.get(family, {}))
    x0, t, p = inputs(4, 6, n_parameters)
    t = torch.cat([t, torch.tensor([0.0, 1.0, t[2]])])
    with torch.no_grad():
        together = model(x0, t, p)
        one_by_one = torch.cat([model(x0, t[i : i + 1], p) for i in range(len(t))], dim=1)
        backwards = model(x0, t.flip(0), p).flip(1)
    torch.testing.assert_close(one_by_one, together, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(backwards, together, rtol=1e-4, atol=1e-5)


@every_case
def test_a_trajectory_does_not_depend_on_its_batch(family, n_parameters, changes):
    model = surrogate(family, n_parameters, **changes, **EXACT.get(family, {}))
    x0, t, p = inputs(4, 6, n_parameters)
    with torch.no_grad():
        together = model(x0, t, p)
        alone = [model(x0[[i]], t, None if p is None else p[[i]]) for i in range(4)]
    torch.testing.assert_close(torch.cat(alone), together, rtol=1e-4, atol=1e-5)


@every_case
def test_parameters_are_used_and_asked_for(family, n_parameters, changes):
    model = surrogate(family, n_parameters, **changes)
    x0, t, p = inputs(4, 6, n_parameters)
    t[-1] = 1
    if p is None:
        with pytest.raises(UserError, match="parameters: must be left out"):
            model(x0, t, torch.zeros(4, 2))
        return
    p.requires_grad_()
    model(x0, t, p)[:, -1].square().sum().backward()
    assert (p.grad.abs() > 0).all()
    with pytest.raises(UserError, match=r"parameters: must have shape \[4, 2\] but are missing"):
        model(x0, t)
    with pytest.raises(UserError, match=r"parameters: must have shape \[4, 2\] but have \[1, 2\]"):
        model(x0, t, torch.zeros(1, 2))


@every_family
def test_other_shapes_are_refused(family):
    model = surrogate(family)
    with pytest.raises(UserError, match=r"x0: must have shape \[B, 3\] but has \[4, 2\]"):
        model(torch.zeros(4, 2), torch.zeros(1))
    with pytest.raises(UserError, match=r"t: must have shape \[T\] but has \[1, 1\]"):
        model(torch.zeros(4, 3), torch.zeros(1, 1))


@every_case
def test_saved_weights_give_the_same_numbers(family, n_parameters, changes, tmp_path):
    model = surrogate(family, n_parameters, seed=0, **changes)
    other = surrogate(family, n_parameters, seed=1, **changes)
    x0, t, p = inputs(4, 6, n_parameters)
    with torch.no_grad():
        assert not torch.equal(model(x0, t, p), other(x0, t, p))
        save_file(model.state_dict(), tmp_path / "weights.safetensors")
        other.load_state_dict(load_file(tmp_path / "weights.safetensors"))
        assert torch.equal(model(x0, t, p), other(x0, t, p))


@every_family
def test_a_seed_makes_the_same_weights(family):
    first, second = (surrogate(family, seed=3).state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


@every_family
@pytest.mark.parametrize("activation", ["ReLU", "PReLU", "SELU", "Tanh"])
def test_activations_are_separate_modules(family, activation):
    model = surrogate(family, activation=activation)
    modules = [module for module in model.modules() if type(module).__name__ == activation]
    assert (
        len(modules)
        == len(set(map(id, modules)))
        == sum(isinstance(m, torch.nn.GELU) for m in surrogate(family).modules())
    )


@pytest.mark.parametrize(
    ("family", "changes", "n_steps"),
    [
        ("MultiONet", {}, 400),
        ("FullyConnected", {}, 500),
        ("LatentPoly", {}, 1000),
        pytest.param("LatentNeuralODE", {"rtol": 1e-3, "atol": 1e-3}, 450, marks=pytest.mark.slow),
    ],
)
def test_ten_trajectories_are_learned_by_heart(family, changes, n_steps):
    x, t = damped_oscillators()
    model = surrogate(family, n_quantities=2, n_timesteps=len(t), **changes)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, n_steps)
    for _ in range(n_steps):
        optimizer.zero_grad()
        model.loss(x[:, 0], t, None, x, mse_loss).backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        error = mse_loss(model(x[:, 0], t), x) / x.var()
    assert error < 1e-3
