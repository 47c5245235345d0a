"""Prepared tensors, where they come from, and the memory they need."""

import re
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from benchmarks import loading
from codes.data import Dataset, Split, load_data, locate, prepare, write_dataset
from codes.errors import UserError
from codes.schema import DatasetConfig, DataSpec, GenerateConfig


def settings(**changes):
    defaults = {"name": "mine", "source": "file", "log10_transform": True, "log10_transform_params": True}
    scaling = {"normalise": "minmax", "normalise_per_quantity": True, "time_scale": "index"}
    return DatasetConfig(**{**defaults, **scaling, **changes})


@pytest.fixture
def dataset(tmp_path):
    """Three splits of float32 trajectories with parameters, log-normal, on an uneven grid."""
    rng = np.random.default_rng(0)

    def split(n):
        return Split(rng.lognormal(size=(n, 4, 3)).astype(np.float32), rng.lognormal(size=(n, 2)).astype(np.float32))

    timesteps = np.array([0.0, 1, 10, 100])
    return Dataset(tmp_path / "data.h5", timesteps, ("H", "H2", "e-"), split(9), split(5), split(3))


def test_tensors_are_the_transformed_splits(dataset):
    data = prepare(dataset, settings())
    assert data.spec == DataSpec(3, 2, 4)
    assert data.labels == ("H", "H2", "e-")
    assert [len(split) for split in (data.train, data.test, data.val)] == [9, 5, 3]
    torch.testing.assert_close(data.t, torch.tensor([0, 1 / 3, 2 / 3, 1]))
    for name, split in dataset.splits():
        tensors = getattr(data, name)
        assert tensors.x.dtype == tensors.p.dtype == data.t.dtype == torch.float32
        x, p = (torch.from_numpy(v).double() for v in (split.trajectories, split.parameters))
        assert torch.equal(tensors.x, data.transform.forward(x).float())
        assert torch.equal(tensors.p, data.transform.forward_params(p).float())
    assert data.train.x.abs().amax((0, 1)).tolist() == pytest.approx([1, 1, 1])
    assert data.train.p.abs().amax(0).tolist() == pytest.approx([1, 1])


def test_a_floor_tells_of_values_that_are_no_rounding(dataset, caplog):
    dataset.train.trajectories[3, 1, 2], dataset.train.trajectories[4, 2, 2] = -1, -3
    dataset.train.trajectories[5, 3, 0] = -2
    dataset.test.trajectories[0, 0, 0] = 0
    dataset.val.trajectories[0, 0, :] = -1e-13
    prepare(dataset, settings(tolerance=1e-12))
    assert caplog.messages == [
        f"{dataset.path}: 'train' has negative values beyond the floor dataset.tolerance=1e-12, which takes their "
        "place: 1 of H, 2 of e-, the least of them train[4, 2, 2] (e-) = -3; check the data"
    ]


def test_overwriting_gives_the_same_numbers_without_a_copy(dataset):
    before = dataset.train.trajectories.copy()
    data = prepare(dataset, settings())
    np.testing.assert_array_equal(dataset.train.trajectories, before)
    again = prepare(dataset, settings(), overwrite=True)
    assert torch.equal(again.train.x, data.train.x) and torch.equal(again.val.p, data.val.p)
    assert again.test.x.data_ptr() == dataset.test.trajectories.ctypes.data


def test_data_without_parameters(dataset):
    train, test, val = (Split(split.trajectories) for _, split in dataset.splits())
    data = prepare(Dataset(dataset.path, dataset.timesteps, dataset.labels, train, test, val), settings())
    assert data.spec.n_parameters == 0
    assert data.train.p is None and data.to("cpu").train.p is None


def test_everything_moves_to_the_device(dataset):
    data = prepare(dataset, settings()).to("meta")
    transform = data.transform
    tensors = [data.t, data.train.x, data.test.p, data.val.x, transform.timesteps, transform.error_scale]
    assert {tensor.device.type for tensor in tensors} == {"meta"}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_numbers_on_the_gpu_are_those_on_the_cpu(dataset):
    data = prepare(dataset, settings())
    moved = data.to("cuda")
    torch.testing.assert_close(moved.transform.inverse(moved.val.x).cpu(), data.transform.inverse(data.val.x))
    times = torch.tensor([0.5, 50])
    torch.testing.assert_close(moved.transform.forward_times(times.cuda()).cpu(), data.transform.forward_times(times))


@pytest.mark.parametrize("value", [0, -1e-3])
def test_a_logarithm_of_what_is_not_positive_is_refused(dataset, value):
    dataset.val.trajectories[2, 1, 2] = value
    message = f"{dataset.path}: val[2, 1, 2] (e-) is {value:g}, which has no logarithm; set a floor (dataset.tolerance="
    with pytest.raises(UserError, match=re.escape(message)):
        prepare(dataset, settings())
    assert prepare(dataset, settings(tolerance=1e-6)).val.x.isfinite().all()
    assert prepare(dataset, settings(log10_transform=False)).val.x.isfinite().all()


@pytest.mark.parametrize(("least", "floor"), [(3.96e-7, "3e-7"), (1e-30, "1e-30"), (1e-300, "1e-300")])
def test_the_floor_that_is_advised_raises_no_positive_value_and_is_next_to_the_least(dataset, least, floor):
    train = Split(dataset.train.trajectories.astype(np.float64), dataset.train.parameters)
    train.trajectories[0, 1, 0], dataset.test.trajectories[0, 0, 1] = least, 0
    dataset = replace(dataset, train=train)
    with pytest.raises(UserError, match=rf"test\[0, 0, 1\] .* is 0, .*dataset\.tolerance={floor}, below all positive"):
        prepare(dataset, settings())
    assert 0.5 * least < float(floor) <= least
    assert prepare(dataset, settings(tolerance=float(floor))).test.x.isfinite().all()


@pytest.mark.parametrize("value", [0, 2])
def test_no_floor_is_advised_where_there_is_none(dataset, value):
    dataset.train.trajectories[:], dataset.val.trajectories[:] = value, 0
    with pytest.raises(UserError, match=r"is 0, which has no logarithm; set dataset\.log10_transform=false$"):
        prepare(dataset, settings())


def test_a_logarithm_of_a_parameter_that_is_not_positive_is_refused(dataset):
    dataset.test.parameters[4, 1] = 0
    with pytest.raises(UserError, match=re.escape("test_params[4, 1] (p1) is 0, which has no logarithm")):
        prepare(dataset, settings(tolerance=1e-6))
    assert prepare(dataset, settings(log10_transform_params=False)).test.p.isfinite().all()


def test_a_floor_below_float32_is_kept(dataset):
    dataset.val.trajectories[0, 0, 0] = 0
    data = prepare(dataset, settings(tolerance=1e-60, normalise="disable"))
    assert data.val.x[0, 0, 0] == -60


def test_what_float32_cannot_hold_is_refused(dataset):
    large = Split(dataset.val.trajectories.astype(np.float64), dataset.val.parameters)
    large.trajectories[1, 3, 0] = 1e40
    dataset = Dataset(dataset.path, dataset.timesteps, dataset.labels, dataset.train, dataset.test, large)
    with pytest.raises(UserError, match=re.escape("val[1, 3, 0] (H) is too large for float32 after scaling")):
        prepare(dataset, settings(log10_transform=False))
    assert prepare(dataset, settings()).val.x.isfinite().all()


def test_a_file_is_loaded(dataset, tmp_path):
    splits = {name: split.trajectories for name, split in dataset.splits()}
    path = write_dataset(tmp_path / "mine.h5", **splits)
    config = settings(path=str(path))
    assert locate(config) == path
    assert torch.equal(load_data(config).test.x, prepare(dataset, config).test.x)


def test_a_home_folder_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine.h5").touch()
    assert locate(settings(path="~/mine.h5")) == tmp_path / "mine.h5"


def test_a_file_that_is_not_there_is_told():
    with pytest.raises(UserError, match=r"dataset\.path: 'nowhere\.h5' does not exist; looked in /"):
        locate(settings(path="nowhere.h5"))


@pytest.mark.parametrize("source", ["generate", "download"])
def test_a_file_that_would_not_be_read_is_told(tmp_path, source):
    with pytest.raises(
        UserError, match=rf"'mine\.h5' would not be read, since dataset\.source={source}; add dataset=hdf5"
    ):
        locate(settings(source=source, path="mine.h5", data_dir=str(tmp_path)))


@pytest.mark.parametrize(
    "changes, message",
    [
        ({}, r"dataset\.path is not given; with dataset\.source=file it is the HDF5 file to read"),
        ({"path": "???"}, r"dataset\.path is not given"),
        ({"source": "generate"}, r"dataset\.generate is not given; with dataset\.source=generate it is the ODE system"),
        ({"source": "download"}, r"dataset\.url is not given; with dataset\.source=download it is the public file's"),
        ({"source": "web"}, r"dataset\.source: 'web' is unknown; choose from file, generate, download"),
    ],
)
def test_what_a_source_needs_is_asked_for(tmp_path, changes, message):
    config = settings(data_dir=str(tmp_path), **changes)
    with pytest.raises(UserError, match=message):
        locate(config)
    if config.source != "web":  # no such choice gets into a composed config
        with pytest.raises(UserError, match=message):
            locate(OmegaConf.structured(config))


def test_a_built_in_system_is_integrated(tmp_path):
    generate = GenerateConfig(system="lotka_volterra", n_train=3, n_test=2, n_val=2, seed=1)
    data = load_data(settings(source="generate", generate=generate, data_dir=str(tmp_path)))
    assert [len(split) for split in (data.train, data.test, data.val)] == [3, 2, 2]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel for the peak")
@pytest.mark.parametrize("dtype, copies", [("float32", 1), ("float64", 1.5)])
def test_loading_makes_no_copy_of_the_data(dtype, copies):
    result = loading.measure(2**27, dtype, normalise="standardise")
    assert result.peak - result.imported < (copies + 0.6) * result.size  # room for the pieces that are worked on
