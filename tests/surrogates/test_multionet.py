"""MultiONet against its definition, pair by pair."""

import math

import pytest
import torch

from tests.surrogates.cases import inputs, surrogate


@pytest.mark.parametrize("params_branch", [True, False])
@pytest.mark.parametrize("n_parameters", [0, 2])
def test_prediction_is_the_scalar_product_of_each_pair(params_branch, n_parameters):
    model = surrogate("MultiONet", n_parameters, params_branch=params_branch, output_factor=4, hidden_size=8)
    x0, t, p = inputs(3, 5, n_parameters)
    with torch.no_grad():
        prediction = model(x0, t, p)
        for i in range(3):
            own = x0.new_empty(0) if p is None else p[i]
            branch = model.branch(torch.cat([x0[i], own]) if params_branch else x0[i])
            for j in range(5):
                shift = None if params_branch or p is None else model.trunk.condition(own)
                trunk = model.trunk(t[[j]], shift)
                for q in range(3):
                    terms = slice(4 * q, 4 * q + 4)
                    expected = torch.dot(branch[terms], trunk[terms]) / math.sqrt(4)
                    torch.testing.assert_close(prediction[i, j, q], expected)


def test_the_branch_runs_once_per_trajectory_and_the_trunk_once_per_time():
    model = surrogate("MultiONet", 2)
    rows = {}
    model.branch.register_forward_hook(lambda _, args, out: rows.update(branch=out.shape[:-1]))
    model.trunk.register_forward_hook(lambda _, args, out: rows.update(trunk=out.shape[:-1]))
    model(*inputs(4, 6, 2))
    assert rows == {"branch": (4,), "trunk": (6,)}
