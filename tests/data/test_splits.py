"""Splits of trajectories: dealt at random, and none shared."""

import logging

import numpy as np
import pytest

from codes.data import read_dataset, split_trajectories, write_dataset
from codes.errors import UserError
from tests.data.files import arrays


def test_trajectories_shared_between_splits_are_told(path, caplog):
    given = arrays()
    with caplog.at_level(logging.WARNING):
        write_dataset(path, **given)
        assert not caplog.messages
        given["test"][1:], given["test_params"][1:] = given["train"][:2], given["train_params"][:2]
        write_dataset(path, **given)
        read_dataset(path)
    assert caplog.messages == 2 * [f"{path}: 2 of 3 trajectories of 'test' are in 'train' too; scores on it flatter"]


def test_a_val_that_is_test_is_told(path, caplog):
    given = arrays()
    given["val"], given["val_params"] = given["test"], given["test_params"]
    write_dataset(path, **given)
    assert caplog.messages == [f"{path}: 3 of 3 trajectories of 'val' are in 'test' too; scores on it flatter"]


def test_the_same_states_under_other_parameters_are_not_shared(path, caplog):
    given = arrays()
    given["test"][:] = given["train"][:3]
    write_dataset(path, **given)
    assert not caplog.messages


def test_split_deals_every_trajectory_to_one_split(path):
    x = np.arange(100 * 6, dtype=float).reshape(100, 3, 2)
    p = np.arange(100, dtype=float)[:, None]
    given = split_trajectories(x, p, fractions=(0.6, 0.3, 0.1), seed=7)
    write_dataset(path, **given, timesteps=[0, 1, 2], labels=["a", "b"])
    dataset = read_dataset(path)
    assert [len(split) for _, split in dataset.splits()] == [60, 30, 10]
    dealt = np.concatenate([split.parameters[:, 0] for _, split in dataset.splits()])
    assert sorted(dealt) == list(range(100)) and list(dealt) != list(range(100))
    for _, split in dataset.splits():
        np.testing.assert_array_equal(split.trajectories[:, 0, 0], 6 * split.parameters[:, 0])


def test_split_depends_on_the_seed_only():
    x = np.random.default_rng(0).uniform(size=(50, 2, 1))
    first, again, other = (split_trajectories(x, seed=seed)["train"] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize(
    "n, n_params, fractions, message",
    [
        (10, 9, (0.6, 0.2, 0.2), "parameters has 9 rows for 10 trajectories"),
        (10, 10, (0.6, 0.2, 0.1), "add up to 1"),
        (10, 10, (1.2, -0.4, 0.2), "must be positive"),
        (3, 3, (0.9, 0.05, 0.05), "3 trajectories are too few"),
    ],
)
def test_impossible_splits_are_refused(n, n_params, fractions, message):
    with pytest.raises(UserError, match=message):
        split_trajectories(np.ones((n, 2, 1)), np.ones((n_params, 1)), fractions=fractions)
