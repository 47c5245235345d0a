"""K models as one with stacked parameters, for every family that says it can."""

import pytest
import torch
from torch.nn.functional import mse_loss

from codes.surrogates import SURROGATES
from codes.surrogates.row import flattened, lay_out
from codes.surrogates.stack import stacked
from tests.surrogates.cases import FAMILIES, inputs, surrogate, switches

CASES = [
    pytest.param(family, n_parameters, changes, id=f"{family}-{n_parameters}-{'-'.join(map(str, changes.values()))}")
    for family, kind in SURROGATES.items()
    if kind.stackable
    for n_parameters in (0, 2)
    for changes in [*switches(family), {"activation": "PReLU"}, {"activation": "CELU"}]
]
WEIGHTS = {"LatentPoly": {"derivative_weight": 0.5, "curvature_weight": 0.1}}


@pytest.mark.parametrize(("family", "n_parameters", "changes"), CASES)
def test_predictions_losses_and_gradients_are_those_of_each_model(family, n_parameters, changes):
    changes = {**WEIGHTS.get(family, {}), **changes}
    models = [surrogate(family, n_parameters, seed=seed, **changes) for seed in range(3)]
    rows = torch.stack([flattened(model) for model in models])
    gradients = torch.zeros_like(rows)
    whole = stacked(models[0], rows, gradients)
    own = [inputs(4, 6, n_parameters, seed=seed) for seed in range(3)]
    x0, t, p = (torch.stack(parts) if parts[0] is not None else None for parts in zip(*own, strict=True))
    x = torch.randn(3, 4, 6, 3)
    predictions = whole(x0, t, p)
    losses = whole.loss(x0, t, p, x, lambda y, x: (y - x).square().flatten(1).mean(1))
    losses.sum().backward()
    for index, model in enumerate(models):
        loss = model.loss(*own[index], x[index], mse_loss)
        loss.backward()
        torch.testing.assert_close(predictions[index], model(*own[index]), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(losses[index], loss, rtol=1e-5, atol=1e-6)
        expected = torch.cat([parameter.grad.flatten() for parameter in model.parameters()])
        torch.testing.assert_close(gradients[index], expected, rtol=1e-3, atol=1e-5)


def test_all_families_stack_but_the_one_whose_solver_has_steps_of_its_own():
    assert [family for family in FAMILIES if not SURROGATES[family].stackable] == ["LatentNeuralODE"]


def test_a_model_that_is_laid_out_in_a_row_is_what_is_written_there():
    model, other = surrogate("FullyConnected", seed=0), surrogate("FullyConnected", seed=1)
    row = flattened(model)
    lay_out(model, row)
    row.copy_(flattened(other))
    x0, t, _ = inputs(4, 6)
    with torch.no_grad():
        assert torch.equal(model(x0, t), other(x0, t))


def test_what_is_not_to_be_learned_is_in_no_row():
    model = surrogate("FullyConnected", seed=0)
    fixed = next(model.parameters()).requires_grad_(False)
    kept, row = fixed.detach().clone(), flattened(model)
    lay_out(model, row)
    row.add_(1)
    assert torch.equal(fixed, kept)
    assert len(row) == sum(parameter.numel() for parameter in model.parameters()) - fixed.numel()
