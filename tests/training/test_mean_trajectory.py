"""The prediction that any surrogate must beat, against known answers."""

from pathlib import Path

import numpy as np
import pytest

from codes.data import Dataset, Split, prepare
from codes.training.mean_trajectory import MeanTrajectory, mean_errors
from tests.training import example


def prepared(*, train, val, log10):
    """Two trajectories in each split, which begin at these numbers and go down to a tenth of them."""
    parts = [Split(np.array(starts)[:, None, None] * np.array([[1.0], [0.1]])) for starts in (train, train, val)]
    dataset = Dataset(Path("known"), np.array([0.0, 1.0]), ("y",), *parts)
    return prepare(dataset, example.config("MultiONet", f"dataset.log10_transform={str(log10).lower()}").dataset)


def test_the_mean_is_the_geometric_one_of_data_under_a_logarithm():
    data = prepared(train=[1.0, 1e4], val=[1e2, 1e6], log10=True)  # whose mean is 100, then 10: off by 0 and 4 dex
    errors = mean_errors(data, data.val, 100)
    assert errors["lae99"] == pytest.approx(4) and errors["mlae"] == pytest.approx(2)


def test_the_mean_is_the_arithmetic_one_of_other_data():
    data = prepared(train=[1.0, 3.0], val=[2.0, 6.0], log10=False)  # whose mean is 2, then 0.2
    errors = mean_errors(data, data.val, 100)
    assert errors["lae99"] == pytest.approx(4) and errors["mae"] == pytest.approx((0 + 4 + 0 + 0.4) / 4)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_it_is_the_same_for_any_number_of_initial_states(count):
    data = prepared(train=[1.0, 3.0], val=[2.0, 6.0], log10=False)
    predicted = MeanTrajectory(data.train.x)(data.val.x[:1, 0].expand(count, -1), data.t)
    assert predicted.shape == (count, 2, 1) and (predicted == data.train.x.mean(0)).all()
