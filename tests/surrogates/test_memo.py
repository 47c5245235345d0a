"""What is kept of the times is what a new call would make of them."""

import pytest
import torch

from codes.surrogates.memo import Memo


@pytest.fixture
def calls():
    """Tensors that a function was called with, and the function's memo."""
    seen = []

    def double(tensor):
        seen.append(tensor)
        return 2 * tensor

    return seen, Memo(double)


def test_the_same_tensor_is_looked_at_once(calls):
    seen, memo = calls
    t = torch.linspace(0, 1, 5)
    assert memo(t) is memo(t)
    assert len(seen) == 1


def test_another_tensor_or_one_that_was_written_to_is_looked_at_again(calls):
    seen, memo = calls
    t = torch.linspace(0, 1, 5)
    memo(t)
    assert torch.equal(memo(t.clone()), 2 * t)
    memo(t)
    t[0] = 7
    assert torch.equal(memo(t), 2 * t)
    assert len(seen) == 4


def test_gradients_are_not_kept(calls):
    _, memo = calls
    t = torch.linspace(0, 1, 5, requires_grad=True)
    for _ in range(2):
        memo(t).sum().backward()
    assert torch.equal(t.grad, torch.full((5,), 4.0))


def test_nothing_is_kept_of_inference_mode(calls):
    _, memo = calls
    outside = torch.linspace(0, 1, 5)
    with torch.inference_mode():
        t = torch.linspace(0, 1, 5)
        memo(t)
        t[0] = 7
        assert torch.equal(memo(t), 2 * t)
        memo(outside)
    assert torch.equal(memo(t), 2 * t)
    x = torch.ones(5, requires_grad=True)
    (memo(outside) * x).sum().backward()  # which tensors of inference mode refuse
    assert torch.equal(x.grad, 2 * outside)
