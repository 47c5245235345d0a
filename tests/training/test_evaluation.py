"""Metrics against known answers."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import nn

from codes.data import Split, TensorSplit, prepare
from codes.errors import Diverged
from codes.surrogates.base import SolverFailure
from codes.training.evaluation import evaluate, evaluate_by_quantity, percentile
from tests.training import example


class Known(nn.Module):
    """Predicts what it was given, plus an error."""

    def __init__(self, x, error):
        super().__init__()
        self.x, self.error, self.calls, self.largest = x, error, 0, 0

    def forward(self, x0, t, p=None):
        start = int((self.x[:, 0] == x0[0]).all(-1).nonzero()[0])
        self.calls, self.largest = self.calls + 1, max(self.largest, len(x0))
        return self.x[start : start + len(x0)] + self.error[start : start + len(x0)]


@pytest.mark.parametrize("log10", [False, True])
def test_metrics_are_those_of_numpy_in_physical_units(log10):
    data = example.data(log10=log10)
    split = data.test
    error = 0.1 * torch.randn(split.x.shape, generator=torch.Generator().manual_seed(0))
    metrics = evaluate(Known(split.x, error), split, data.t, data.transform, 95)
    truth, predicted = (data.transform.inverse(x.double()).numpy() for x in (split.x, split.x + error))
    absolute = np.abs(np.log10(predicted) - np.log10(truth)) if log10 else np.abs(predicted - truth)
    assert metrics == pytest.approx(
        {
            "lae99": np.percentile(absolute, 95),
            "mlae": absolute.mean(),
            "mae": np.abs(predicted - truth).mean(),
            "mse": np.square(predicted - truth).mean(),
        },
        rel=1e-4,
    )


@pytest.mark.parametrize("log10", [False, True])
@pytest.mark.parametrize("count", [1, 3, 200])
def test_errors_of_each_quantity_are_those_of_numpy(count, log10, monkeypatch):
    raw = example.dataset()
    scales = np.logspace(-3, 3, count)  # each quantity has an error of its own
    columns = np.arange(count) % 3
    parts = {name: Split(split.trajectories[..., columns] * scales) for name, split in raw.splits()}
    labels = tuple(f"species {index}" for index in range(count))
    config = example.config("MultiONet", f"dataset.log10_transform={str(log10).lower()}")
    data = prepare(replace(raw, **parts, labels=labels), config.dataset)
    error = 0.1 * torch.randn(data.val.x.shape, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr("codes.training.batches.EVALUATION_ROWS", 3 * 21)  # in slices
    found = evaluate_by_quantity(Known(data.val.x, error), data.val, data, 95)
    truth, predicted = (data.transform.inverse(x.double()).numpy() for x in (data.val.x, data.val.x + error))
    absolute = np.abs(np.log10(predicted) - np.log10(truth)) if log10 else np.abs(predicted - truth)
    for name, values in {"lae99": np.percentile(absolute, 95, (0, 1)), "mlae": absolute.mean((0, 1))}.items():
        assert found[name] == pytest.approx(dict(zip(labels, values, strict=True)), rel=1e-4, abs=0)
    whole = evaluate(Known(data.val.x, error), data.val, data.t, data.transform, 95)
    assert np.mean(list(found["mlae"].values())) == pytest.approx(whole["mlae"])
    if count == 1:
        assert found["lae99"][labels[0]] == whole["lae99"]


def test_quantities_of_one_label_are_numbered():
    data = replace(example.data(), labels=("a", "b", "a"))
    found = evaluate_by_quantity(Known(data.val.x, torch.zeros_like(data.val.x)), data.val, data, 99)
    assert found["mlae"] == {"q0": 0, "q1": 0, "q2": 0}


@pytest.mark.parametrize("unit", [1e-50, 1e51])
def test_metrics_of_linear_data_beyond_float32_are_those_of_numpy(unit):
    raw = example.dataset()
    parts = {name: Split(split.trajectories * unit) for name, split in raw.splits()}
    data = prepare(replace(raw, **parts), example.config().dataset)
    error = 0.1 * torch.randn(data.test.x.shape, generator=torch.Generator().manual_seed(0))
    metrics = evaluate(Known(data.test.x, error), data.test, data.t, data.transform, 95)
    truth, predicted = (data.transform.inverse(x.double()).numpy() for x in (data.test.x, data.test.x + error))
    absolute = np.abs(predicted - truth)
    wanted = {"lae99": np.percentile(absolute, 95), "mlae": absolute.mean(), "mae": absolute.mean()}
    assert metrics == pytest.approx({**wanted, "mse": np.square(absolute).mean()}, rel=1e-4, abs=0)


def test_a_perfect_prediction_has_no_error():
    data = example.data(log10=True)
    metrics = evaluate(Known(data.val.x, torch.zeros_like(data.val.x)), data.val, data.t, data.transform, 99)
    assert metrics == {"lae99": 0, "mlae": 0, "mae": 0, "mse": 0}


def test_one_pass_in_slices_gives_the_same_as_the_whole(monkeypatch):
    data = example.data()
    model = Known(data.test.x, 0.01 * data.test.x)
    whole = evaluate(model, data.test, data.t, data.transform, 99)
    assert (model.calls, model.largest) == (1, 8)
    monkeypatch.setattr("codes.training.batches.EVALUATION_ROWS", 3 * 21)
    model = Known(data.test.x, 0.01 * data.test.x)
    assert evaluate(model, data.test, data.t, data.transform, 99) == pytest.approx(whole, rel=1e-6)
    assert (model.calls, model.largest) == (3, 3)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_a_prediction_that_is_not_finite_diverged(value):
    data = example.data()
    error = torch.zeros_like(data.test.x)
    error[5, 7, 1] = value
    with pytest.raises(Diverged, match="NaN or infinite"):
        evaluate(Known(data.test.x, error), data.test, data.t, data.transform, 99)
    with pytest.raises(Diverged, match="NaN or infinite"):
        evaluate_by_quantity(Known(data.test.x, error), data.test, data, 99)


def test_a_solver_that_gave_up_diverged():
    class GivesUp(nn.Module):
        def forward(self, x0, t, p=None):
            raise SolverFailure("too many steps")

    data = example.data()
    with pytest.raises(Diverged, match="too many steps"):
        evaluate(GivesUp(), data.test, data.t, data.transform, 99)


def test_the_mode_of_the_model_is_restored():
    data = example.data()
    model = Known(data.test.x, torch.zeros_like(data.test.x))
    for training in (True, False):
        evaluate(model.train(training), data.test, data.t, data.transform, 99)
        assert model.training is training


def test_physical_errors_beyond_float32_are_finite():
    data = example.data(log10=True)
    quantities = data.transform.quantities
    transform = replace(data.transform, quantities=replace(quantities, offset=quantities.offset + 60))
    metrics = evaluate(Known(data.test.x, 0.1 + 0 * data.test.x), data.test, data.t, transform, 99)
    assert np.isfinite(list(metrics.values())).all()
    assert metrics["mse"] > 1e100


@given(
    arrays(np.float32, st.integers(1, 300), elements=st.floats(0, 1e6, width=32)),
    st.floats(0, 100, exclude_min=True),
)
def test_percentile_is_that_of_numpy(values, percent):
    expected = np.percentile(values.astype(np.float64), percent)
    assert percentile(values.copy(), percent) == pytest.approx(expected, rel=1e-9, abs=1e-30)


@pytest.mark.slow
def test_percentile_above_sixteen_million_elements():
    values = np.random.default_rng(0).exponential(size=2**24 + 4321).astype(np.float32)
    if torch.__version__ < (2, 15):  # which takes as many as there are
        with pytest.raises(RuntimeError, match="too large"):
            torch.quantile(torch.from_numpy(values), 0.99)
    expected = np.percentile(values, 99)
    assert percentile(values, 99) == pytest.approx(float(expected), rel=1e-6)


@pytest.mark.slow
def test_metrics_of_a_split_above_sixteen_million_elements():
    data = example.data()
    n = 2**24 // (21 * 3) + 1
    x = data.test.x[:1].expand(n, -1, -1).contiguous()
    x[:, 0, 0] += torch.arange(n) * 1e-6
    split = TensorSplit(x, None)
    ramp = torch.linspace(0, 1, x.numel()).view_as(x)

    class Ramp(nn.Module):
        start = 0

        def forward(self, x0, t, p=None):
            begin, self.start = self.start, self.start + len(x0)
            return x[begin : self.start] + ramp[begin : self.start]

    transform = replace(data.transform, quantities=replace(data.transform.quantities, scale=torch.ones(3).double()))
    metrics = evaluate(Ramp(), split, data.t, transform, 99)
    assert metrics["lae99"] == pytest.approx(0.99, abs=1e-5)
    assert metrics["mlae"] == pytest.approx(0.5, abs=1e-5)
    assert metrics["mse"] == pytest.approx(1 / 3, abs=1e-5)
