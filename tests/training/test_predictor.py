"""Predictions beyond what was seen in training, their gradients, and slices of any size."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml

import codes
from codes.data import prepare
from codes.errors import OutOfRange, UserError
from codes.surrogates import SURROGATES
from codes.training import load
from tests.training import example
from tests.training.test_artifact import physical, saved


@pytest.fixture(autouse=True)
def warnings_are_errors():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.mark.parametrize("changes", [(), ("dataset.normalise=disable",), ("dataset.log10_transform=true",)])
def test_what_was_seen_in_training_warns_of_nothing(changes, tmp_path):
    """In float64 and after a way through float32; one column is constant and large."""
    raw = example.dataset(parameters=True)
    raw.train.trajectories[..., 1] = 1e6 / 3
    data = prepare(raw, example.config("MultiONet", *changes).dataset)
    saved(tmp_path, data=data)
    x0, params = raw.train.trajectories[:, 0], raw.train.parameters
    for dtype in (np.float64, np.float32):
        load(tmp_path).predict(x0.astype(dtype), data.timesteps, params.astype(dtype))


def test_a_quantity_that_is_constant_but_for_rounding_warns_of_no_rounding(tmp_path):
    """Near 1 the logarithm is near 0, and its rounding is not."""
    raw = example.dataset()
    raw.train.trajectories[..., 1] = 1 + 1e-9 * raw.train.trajectories[..., 1]
    saved(tmp_path, data=prepare(raw, example.config("MultiONet", "dataset.log10_transform=true").dataset))
    x0 = raw.train.trajectories[:, 0].astype(np.float32)
    x0[:, 1] = np.nextafter(np.float32(1), np.float32(2))
    load(tmp_path).predict(x0, raw.timesteps)


def test_the_worst_value_outside_is_named_with_the_other_quantities(tmp_path):
    _, data = saved(tmp_path, log10=True, parameters=True)
    predictor, (x0, params) = load(tmp_path), physical(data, "train")
    low, high = x0.min(axis=0), x0.max(axis=0)
    x0[3, 1], x0[5, 2], params[4, 0] = high[1] * 1.01, low[2] / 100, 9.0
    with pytest.warns(OutOfRange) as caught:
        predictor.predict(x0, data.timesteps, params)
    assert len(caught) == 1 and caught[0].filename == __file__
    said = str(caught[0].message)
    assert (
        f"x0: c = {x0[5, 2]:g} at index [5, 2] is outside the range [{low[2]:g}, {high[2]:g}] seen in training" in said
    )
    assert "(2 values are outside of theirs, also of b)" in said
    assert "params: k_a = 9 at index [4, 0] is outside the range" in said


def test_a_time_loop_is_warned_once_of_each_quantity_and_parameter(tmp_path):
    _, data = saved(tmp_path, parameters=True)
    predictor, (x0, params) = load(tmp_path), physical(data, "train")
    x0[1, 0] = 9
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for step in range(5):
            x0[1] += 1
            if step > 2:
                params[2, 1] = 9
            predictor.predict(x0, data.timesteps, params)
    texts = [str(warning.message).split(" is outside", 1)[0] for warning in caught]
    assert texts == ["x0: a = 10 at index [1, 0]", "params: k_b = 9 at index [2, 1]"]


def test_a_warning_that_is_an_error_is_one_at_each_call(tmp_path):
    _, data = saved(tmp_path)
    predictor = load(tmp_path)
    for _ in range(2):
        with pytest.raises(OutOfRange, match="x0: a = 9 at index"):
            predictor.predict([9.0, 1.0, 1.0], data.timesteps)


def test_an_artifact_from_before_ranges_were_kept_says_so(tmp_path):
    _, data = saved(tmp_path)
    path = tmp_path / "config.yaml"
    described = yaml.safe_load(path.read_text())
    del described["seen"], described["parameter_labels"]
    path.write_text(yaml.safe_dump(described | {"format": 1}))
    predictor = load(tmp_path)
    assert predictor.seen is None and "x0 in an unknown range" in repr(predictor)
    predictor.predict(1000 * physical(data)[0], data.timesteps)


def test_times_are_told_in_full(tmp_path):
    raw = replace(example.dataset(), timesteps=2460000 + np.linspace(0, 0.5, 21))
    saved(tmp_path, data=prepare(raw, example.config().dataset))
    assert "t from 2460000 to 2460000.5" in repr(load(tmp_path))


def test_a_predictor_says_what_it_was_trained_for(tmp_path):
    _, data = saved(tmp_path, parameters=True)
    said = repr(load(tmp_path))
    assert said.startswith("MultiONet on cpu") and "t from 0 to 1" in said
    x0, params = physical(data, "train")
    assert f"x0: a from {x0[:, 0].min():g} to {x0[:, 0].max():g}" in said
    assert f"params: k_c from {params[:, 2].min():g} to {params[:, 2].max():g}" in said


@pytest.mark.parametrize("surrogate", SURROGATES)
def test_gradients_are_those_of_finite_differences(surrogate, tmp_path):
    saved(tmp_path, surrogate, log10=True, parameters=True)
    predictor = load(tmp_path)
    if surrogate == "LatentNeuralODE":  # gradients are those of the steps taken, up to the tolerance
        predictor.model.config.rtol = predictor.model.config.atol = 1e-6
    x0 = torch.tensor([[1.0, 0.8, 1.2], [0.9, 1.1, 1.3]], dtype=torch.float64, requires_grad=True)
    t = torch.tensor([0.13, 0.58], dtype=torch.float64, requires_grad=True)
    params = torch.tensor([1.0, 0.9, 1.4], dtype=torch.float64, requires_grad=True)
    weights = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)

    def score(*arguments):
        return (predictor.predict(*arguments) * weights).sum()

    arguments, h = (x0, t, params), 2e-3
    gradients = torch.autograd.grad(score(*arguments), arguments)
    assert not any(weight.requires_grad for weight in predictor.model.parameters())
    for position, (argument, gradient) in enumerate(zip(arguments, gradients, strict=True)):
        for index in np.ndindex(argument.shape):
            ends = []
            for step in (-h, h):
                moved = [value.detach().clone() for value in arguments]
                moved[position][index] += step
                ends.append(score(*moved).item())
            assert gradient[index].item() == pytest.approx((ends[1] - ends[0]) / (2 * h), rel=0.02, abs=2e-3)


@pytest.mark.parametrize("surrogate", SURROGATES)
def test_jacobians_as_the_page_says(surrogate, tmp_path):
    saved(tmp_path, surrogate, log10=True)
    predictor, x0 = load(tmp_path), torch.tensor([[1.0, 0.8, 1.2]], dtype=torch.float64, requires_grad=True)

    def predicted(x0):
        return predictor.predict(x0, [0.13, 0.58])

    jacobian = torch.autograd.functional.jacobian(predicted, x0)
    for index in np.ndindex(1, 2, 3):
        (row,) = torch.autograd.grad(predicted(x0)[index], x0)
        torch.testing.assert_close(jacobian[index], row)
    if surrogate != "LatentNeuralODE":
        torch.testing.assert_close(torch.func.jacrev(predicted)(x0.detach()), jacobian, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("surrogate", SURROGATES)
def test_of_no_state_there_is_no_trajectory(surrogate, tmp_path):
    """As in a process of a simulation that has no cells."""
    _, data = saved(tmp_path, surrogate, log10=True, parameters=True)
    predictor, (x0, params) = load(tmp_path), physical(data, "train")
    for given in (params[:0], params[0]):
        assert predictor.predict(x0[:0], data.timesteps, given).shape == (0, 21, 3)
    found = predictor.predict(torch.zeros(0, 3), torch.tensor([0.5]), params[:0])
    assert found.shape == (0, 1, 3) and found.dtype == torch.float32


def test_parameters_alone_can_be_differentiated_by(tmp_path):
    _, data = saved(tmp_path, parameters=True)
    x0, params = physical(data, "train")
    wanted = torch.from_numpy(params).requires_grad_()
    load(tmp_path).predict(x0, data.timesteps, wanted).sum().backward()
    assert wanted.grad.shape == params.shape and (wanted.grad != 0).all()


def test_many_times_are_predicted_in_slices_too(tmp_path, monkeypatch):
    _, data = saved(tmp_path)
    predictor, (x0, _) = load(tmp_path), physical(data, "train")
    times = np.linspace(0, 1, 101)
    whole, sizes = predictor.predict(x0, times), []
    monkeypatch.setattr("codes.training.batches.EVALUATION_ROWS", 40)
    forward = predictor.model.forward
    predictor.model.forward = lambda x0, t, p: sizes.append(len(x0) * len(t)) or forward(x0, t, p)
    np.testing.assert_allclose(predictor.predict(x0, times), whole, rtol=1e-5)
    assert max(sizes) <= 40 and sum(sizes) == whole[..., 0].size


def test_arrays_of_any_memory_layout_are_taken(tmp_path):
    _, data = saved(tmp_path)
    predictor, (x0, _) = load(tmp_path), physical(data, "train")
    wanted = predictor.predict(x0, data.timesteps)
    np.testing.assert_array_equal(predictor.predict(x0[::-1], data.timesteps[::-1]), wanted[::-1, ::-1])
    np.testing.assert_array_equal(predictor.predict(np.asfortranarray(x0), data.timesteps), wanted)
    same = predictor.predict(np.broadcast_to(x0[0], x0.shape), np.ma.masked_array(data.timesteps))
    np.testing.assert_allclose(same, np.broadcast_to(wanted[0], wanted.shape), rtol=1e-5)


def test_what_is_no_array_of_real_numbers_is_refused(tmp_path):
    _, data = saved(tmp_path)
    predictor, (x0, _) = load(tmp_path), physical(data, "train")
    refused = {
        "x0: must be real numbers, but they are complex": (x0 + 0j, data.timesteps),
        "t: must be real numbers, but they are complex": (x0, torch.ones(3, dtype=torch.complex64)),
        "x0: has masked values": (np.ma.masked_less(x0, x0.mean()), data.timesteps),
        "x0: must be one array, but its rows differ in shape": ([[1, 2, 3], [1, 2]], data.timesteps),
        "t: must be an array of numbers": (x0, ["soon"]),
        "t: must be given, but is None": (x0, None),
    }
    for message, arguments in refused.items():
        with pytest.raises(UserError, match=message):
            predictor.predict(*arguments)


def test_a_prediction_beyond_float32_is_told(tmp_path):
    raw = example.dataset()
    raw.train.trajectories[:] *= 1e38
    saved(tmp_path, "FullyConnected", data=prepare(raw, example.config().dataset))
    predictor, x0 = load(tmp_path), np.full(3, 1e38)
    predictor.model.net.rest[-1].bias[0] += 9
    assert 4e38 < predictor.predict(x0, [0.0])[0, 0] < np.inf
    message = r"prediction: must fit float32, as x0 is \(give it as float64\), but is .* at index \[0, 0\]"
    with pytest.raises(UserError, match=message):
        predictor.predict(x0.astype(np.float32), [0.0])


def test_a_device_that_is_not_here_is_named(tmp_path):
    saved(tmp_path)
    with pytest.raises(UserError, match=r"device: 'cuda:99' is not on this machine; choose from auto, cpu"):
        codes.load(tmp_path, device="cuda:99")
    assert codes.load(tmp_path, device="cpu").device.type == "cpu"
