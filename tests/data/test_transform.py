"""The transform: known answers, an exact inverse, statistics of the training split only, and times in [0, 1]."""

import json
import logging
import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from codes.data import Dataset, Split, Transform
from codes.data.dataset import chunks
from codes.errors import UserError
from codes.schema import DatasetConfig

CHOICES = {
    "log10_transform": st.booleans(),
    "normalise": st.sampled_from(["minmax", "standardise", "disable"]),
    "normalise_per_quantity": st.booleans(),
}


def settings(**changes):
    defaults = {"log10_transform": False, "log10_transform_params": False, "normalise": "minmax"}
    return DatasetConfig(**{**defaults, "normalise_per_quantity": True, "time_scale": "index", **changes})


def fit(train, timesteps=None, params=None, **changes):
    train = np.asarray(train, dtype=changes.pop("dtype", np.float64))
    timesteps = np.arange(train.shape[1]) if timesteps is None else timesteps
    labels = tuple("abcdefgh"[: train.shape[2]])
    split = Split(train, None if params is None else np.asarray(params, dtype=float))
    dataset = Dataset(Path("data.h5"), np.asarray(timesteps, dtype=float), labels, split, split, split)
    return Transform.fit(dataset, settings(**changes))


def tensor(values):
    return torch.tensor(values, dtype=torch.float64)


X = [[[1.0, 10.0], [3.0, 1000.0]], [[5.0, 10.0], [2.0, 100.0]]]


@pytest.mark.parametrize(
    "changes, expected",
    [
        ({"normalise": "disable"}, X),
        ({"normalise": "minmax"}, [[[-1, -1], [0, 1]], [[1, -1], [-0.5, 2 * 90 / 990 - 1]]]),
        (
            {"normalise": "minmax", "normalise_per_quantity": False},
            [[[2 * (v - 1) / 999 - 1 for v in row] for row in trajectory] for trajectory in X],
        ),
        ({"normalise": "disable", "log10_transform": True, "tolerance": 2.0}, np.log10(np.maximum(X, 2))),
        ({"normalise": "disable", "tolerance": 2.0}, X),
    ],
    ids=["disable", "minmax", "over all", "log10 and floor", "a floor without log10 does nothing"],
)
def test_known_answers(changes, expected):
    torch.testing.assert_close(fit(X, **changes).forward(tensor(X)), tensor(np.asarray(expected).tolist()))


@pytest.mark.parametrize("per_quantity", [True, False])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_standardise_over_many_pieces(per_quantity, dtype):
    x = np.random.default_rng(0).lognormal([0, 9], [1, 0.1], (200_000, 3, 2)).astype(dtype)
    assert len(list(chunks(x))) > 1
    transform = fit(x, dtype=dtype, normalise="standardise", normalise_per_quantity=per_quantity, log10_transform=True)
    axes, logs = (0, 1) if per_quantity else None, np.log10(x.astype(np.float64))
    expected = (logs - logs.mean(axis=axes)) / logs.std(axis=axes)
    torch.testing.assert_close(transform.forward(torch.from_numpy(x).double()), torch.from_numpy(expected))


@st.composite
def cases(draw):
    """Positive trajectories over up to 30 decades, and any choice of scaling, fitted on a part of them."""
    shape = (draw(st.integers(2, 5)), draw(st.integers(2, 4)), draw(st.integers(1, 3)))
    exponents = draw(arrays(np.float64, shape, elements=st.floats(-15, 15)))
    choices = {key: draw(choice) for key, choice in CHOICES.items()}
    return 10**exponents, choices


@given(cases())
def test_inverse_is_exact(case):
    x, choices = case
    transform = fit(x[:-1], **choices)
    for dtype in (torch.float64, torch.float32):
        values = torch.from_numpy(x).to(dtype)
        normalised = transform.forward(values)
        back = transform.inverse(normalised)
        assert normalised.dtype == back.dtype == dtype
        assert (back - values).abs().le(rounding(transform, values, normalised)).all()


def rounding(transform, values, normalised):
    """What the last digits of the normalised value are worth in the physical one, times a small factor."""
    eps = torch.finfo(values.dtype).eps
    scaling = transform.quantities
    warped = eps * scaling.scale * normalised.double().abs() + 2e-16 * (scaling.offset.abs() + 15 + scaling.scale)
    if transform.quantities.log10:
        return 8 * values.double() * (np.log(10) * warped + eps)
    return 8 * (warped + eps * values.double().abs() + 2e-16 * normalised.double().abs() * scaling.scale)


@given(cases())
def test_the_training_split_fills_the_range(case):
    x, choices = case
    transform = fit(x, **choices)
    y = transform.forward(torch.from_numpy(x))
    # The centre of a range of a few last digits is itself rounded to such a digit.
    rounded = 1e-9 + (2**-51 * transform.quantities.offset.abs() / transform.quantities.scale).max()
    if choices["normalise"] == "minmax":
        assert y.abs().max() <= 1 + rounded
    if choices["normalise"] == "standardise":
        assert y.pow(2).mean() <= (1 + rounded) ** 2


def test_a_range_of_a_few_last_digits_is_filled_but_for_their_rounding():
    x = 1 + 2.0**-52 * np.array([0, 25]).repeat(2).reshape(2, 2, 1)
    y = fit(x, log10_transform=False, normalise="minmax").forward(torch.from_numpy(x))
    assert 1 <= y.abs().max() <= 1.05


@given(cases())
def test_errors_scale_back_without_the_offset(case):
    x, choices = case
    transform = fit(x, **choices)
    truth = transform.forward(torch.from_numpy(x))
    prediction = truth + torch.linspace(-0.1, 0.1, truth.numel()).reshape(truth.shape)
    physical = [transform.inverse(y) for y in (prediction, truth)]
    if transform.quantities.log10:
        physical = [torch.log10(v) for v in physical]
    expected = (physical[0] - physical[1]).abs()
    atol = 1e-12 * (1 + transform.quantities.offset.abs().max().item())  # the offset's last digits
    torch.testing.assert_close(transform.error_scale * (prediction - truth).abs(), expected, rtol=1e-9, atol=atol)
    assert transform.unit == ("dex" if choices["log10_transform"] else "data units")


@given(cases())
def test_serialised_and_back_gives_the_same_bits(case):
    x, choices = case
    params = x[:, 0, :1]
    transform = fit(x, params=params, log10_transform_params=True, tolerance=float(x.max()) / 2, **choices)
    for state in (json.loads(json.dumps(transform.to_dict())), yaml.safe_load(yaml.safe_dump(transform.to_dict()))):
        again = Transform.from_dict(state)
        assert torch.equal(again.forward(torch.from_numpy(x)), transform.forward(torch.from_numpy(x)))
        assert torch.equal(
            again.forward_params(torch.from_numpy(params)), transform.forward_params(torch.from_numpy(params))
        )
        assert again.unit == transform.unit and again.time_scale == transform.time_scale
        assert torch.equal(again.timesteps, transform.timesteps)


def test_only_the_training_split_is_looked_at():
    train, other = Split(np.asarray(X)), Split(np.full((1, 2, 2), 1e9))
    dataset = Dataset(Path("data.h5"), np.arange(2.0), ("a", "b"), train, other, other)
    assert Transform.fit(dataset, settings()).to_dict() == fit(X).to_dict()


@pytest.mark.parametrize("normalise", ["minmax", "standardise"])
@pytest.mark.parametrize(
    ("value", "log10_transform", "scale"), [(0.1, True, 1), (-1e-9, False, 1e-9), (0, False, 1), (5e-324, False, 1)]
)
def test_a_constant_quantity_is_scaled_by_its_magnitude_and_told(normalise, value, log10_transform, scale, caplog):
    x = np.asarray(X) * [1, 0] + [0, value]
    with caplog.at_level(logging.INFO):
        transform = fit(x, normalise=normalise, log10_transform=log10_transform)
    assert caplog.messages == ["constant in the training split, so without a range to be scaled by: b"]
    assert transform.error_scale[1] == scale
    assert torch.equal(transform.forward(torch.from_numpy(x))[..., 1], torch.zeros(2, 2, dtype=torch.float64))


def test_rounding_is_not_blown_up_to_a_signal(caplog):
    x = np.asarray(X, dtype=np.float32)
    x[..., 1] = 1 + np.finfo(np.float32).eps * np.array([[0, 1], [1, 0]])
    with caplog.at_level(logging.INFO):
        assert fit(x, dtype=np.float32).error_scale[1] == x[..., 1].min()
    assert "b" in caplog.text


def test_one_constant_quantity_is_no_constant_over_all(caplog):
    fit(np.asarray(X) * [1, 0], normalise_per_quantity=False)
    assert not caplog.messages


@pytest.mark.parametrize("normalise", ["minmax", "standardise", "disable"])
@pytest.mark.parametrize("per_quantity", [True, False])
def test_a_floor_above_data_is_told(normalise, per_quantity, caplog):
    changes = {"log10_transform": True, "normalise": normalise, "normalise_per_quantity": per_quantity}
    fit(X, tolerance=4, **changes)
    assert not caplog.messages
    fit(X, tolerance=5, **changes)
    assert caplog.messages == ["nowhere above dataset.tolerance=5 in the training split, so constant: a"]
    message = r"dataset\.tolerance: .* is 1000, but no value of the training split is above 1000; lower it"
    with pytest.raises(UserError, match=message):
        fit(X, tolerance=1000, **changes)


def test_a_floor_of_linear_data_is_told(caplog):
    fit(X, tolerance=1e5)
    assert caplog.messages == ["dataset.tolerance=100000 is a floor under the logarithm: of no effect on linear data"]


def test_parameters_are_scaled_one_by_one():
    transform = fit(X, params=[[1, -5], [100, 5]], normalise="minmax")
    torch.testing.assert_close(transform.forward_params(tensor([[1, 0], [100, 5]])), tensor([[-1, 0], [1, 1]]))
    transform = fit(X, params=[[1, 5], [100, 500]], log10_transform_params=True)
    torch.testing.assert_close(transform.forward_params(tensor([10, 50])), tensor([0, 0]))


def test_parameters_for_a_dataset_without_are_refused():
    with pytest.raises(UserError, match="the dataset has none"):
        fit(X).forward_params(tensor([[1]]))


def test_integers_become_float64():
    y = fit(X).forward(torch.tensor([3, 505]))
    torch.testing.assert_close(y, tensor([0, 0]))


GRID = [0.0, 1e-3, 1.0, 10.0, 1e4]


def is_told_apart(grid):
    """Whether float32 tells the times apart on any scale."""
    return all(late > 1.00001 * early for early, late in pairwise(grid))


@pytest.mark.parametrize(
    "time_scale, grid, times, expected",
    [
        ("index", GRID, GRID, [0, 0.25, 0.5, 0.75, 1]),
        ("index", GRID, [5.5, 5e-4, 5005], [0.625, 0.125, 0.875]),
        ("linear", [10, 11, 20], [10, 11, 15, 20], [0, 0.1, 0.5, 1]),
        ("log10", [1e-2, 1, 1e2], [1e-2, 1e-1, 1, 1e2], [0, 0.25, 0.5, 1]),
    ],
)
def test_times_on_and_off_the_grid(time_scale, grid, times, expected):
    transform = fit(np.random.default_rng(0).uniform(size=(2, len(grid), 1)), grid, time_scale=time_scale)
    torch.testing.assert_close(transform.forward_times(tensor(times)), tensor(expected))
    ends = transform.forward_times(tensor([grid[0], grid[-1]]))
    assert ends.tolist() == [0, 1]


@pytest.mark.parametrize(
    "time_scale, grid, alike",
    [
        ("log10", [1e-9, 1.0000000000000003e-9], "1e-09 and 1e-09 (0 and 1)"),
        ("linear", [0, 1, 1 + 1e-9, 2], "1 and 1.000000001 (1 and 2)"),
    ],
)
def test_timesteps_that_a_scale_does_not_tell_apart_are_refused(time_scale, grid, alike):
    said = f"dataset.time_scale: with {time_scale} the timesteps {alike} are the same in float32; choose index"
    with pytest.raises(UserError, match=re.escape(said)):
        fit(np.ones((1, len(grid), 1)), grid, time_scale=time_scale)
    assert (fit(np.ones((1, len(grid), 1)), grid).forward_times(tensor(grid)).diff() > 0).all()


@given(
    st.lists(st.floats(1e-9, 1e9), min_size=2, max_size=9, unique=True).map(sorted).filter(is_told_apart),
    st.lists(st.floats(0, 1), min_size=1, max_size=20).map(sorted),
    st.sampled_from(["index", "linear", "log10"]),
)
def test_times_are_monotone_and_inside(grid, fractions, time_scale):
    transform = fit(np.ones((1, len(grid), 1)), grid, time_scale=time_scale)
    times = grid[0] + tensor(fractions) * (grid[-1] - grid[0])
    scaled = transform.forward_times(times)
    assert (scaled >= 0).all() and (scaled <= 1).all()
    assert (scaled.diff() >= -1e-12).all()
    through_float32 = transform.forward_times(times.float())
    assert through_float32.dtype == torch.float32
    assert (through_float32 >= 0).all() and (through_float32 <= 1).all()


@pytest.mark.parametrize("time", [-1e-9, 1.001e4, float("nan"), float("inf")])
def test_times_outside_the_training_range_are_refused(time):
    transform = fit(np.ones((1, 5, 1)), GRID)
    with pytest.raises(UserError, match=rf"time {time:g} is outside the training range \[0, 10000\]"):
        transform.forward_times(tensor([1.0, time]))


def test_times_that_float32_has_carried_past_an_end_are_inside():
    transform = fit(np.ones((1, 3, 1)), [1, 1.5, 2])
    assert transform.covers(tensor([1 - 2e-7, 1 - 1e-7, 2 + 1e-7, 2 + 2e-7])).tolist() == [False, True, True, False]


def test_times_far_from_zero_are_held_to_their_span():
    transform = fit(np.ones((1, 3, 1)), [2460000.3, 2460000.31, 2460000.32])
    ends = tensor([2460000.3, 2460000.32])
    assert transform.forward_times(ends.float()).tolist() == [0, 0]  # both are 2460000.25
    assert transform.forward_times(ends + tensor([-1e-10, 1e-10])).tolist() == [0, 1]
    message = r"time 2460000.33 is outside the training range \[2460000.3, 2460000.32\]"
    with pytest.raises(UserError, match=message):
        transform.forward_times(tensor([2460000.33]))


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"normalise": "min-max"}, "dataset.normalise: 'min-max' is unknown; choose from minmax, standardise, disable"),
        ({"time_scale": "log"}, "dataset.time_scale: 'log' is unknown; choose from index, linear, log10"),
        ({"time_scale": "log10"}, "needs positive times, but the first is 0; choose index or linear"),
        ({"tolerance": 0.0}, "dataset.tolerance: the floor under the logarithm must be positive, got 0"),
        ({"tolerance": float("nan")}, "got nan"),
    ],
)
def test_impossible_settings_are_refused(changes, message):
    with pytest.raises(UserError, match=message):
        fit(X, **changes)
