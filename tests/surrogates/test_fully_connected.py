"""FullyConnected against one network on concatenated rows."""

import pytest
import torch
from torch.nn.functional import linear

from tests.surrogates.cases import inputs, surrogate


@pytest.mark.parametrize("n_parameters", [0, 2])
def test_split_first_layer_equals_the_concatenation(n_parameters):
    model = surrogate("FullyConnected", n_parameters)
    x0, t, p = inputs(4, 6, n_parameters)
    net = model.net
    with torch.no_grad():
        state = (x0 if p is None else torch.cat([x0, p], dim=1)).repeat_interleave(6, dim=0)
        rows = torch.cat([t.repeat(4)[:, None], state], dim=1)
        weight = torch.cat([net.first.weight, net.condition.weight], dim=1)
        expected = net.rest(linear(rows, weight, net.first.bias)).unflatten(0, (4, 6))
        torch.testing.assert_close(model(x0, t, p), expected, rtol=1e-4, atol=1e-6)
