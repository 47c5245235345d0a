"""Reading and writing datasets: the public layout, and one message for each way to break its rules."""

import os
import re

import h5py
import numpy as np
import pytest

from codes.data import read_dataset, read_spec, split_trajectories, write_dataset
from codes.data.dataset import ARRAYS, told_apart
from codes.errors import UserError
from codes.schema import DataSpec
from tests.command import ROOT
from tests.data.files import N_QUANTITIES, N_TIMESTEPS, arrays, store


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_is_written_is_read(path, dtype):
    given = arrays(dtype)
    assert write_dataset(path, **given, labels=["H", "H2", "e-"], parameter_labels=["k", "T"]) == path
    dataset = read_dataset(path)
    assert dataset.spec == read_spec(path) == DataSpec(N_QUANTITIES, 2, N_TIMESTEPS)
    assert (dataset.labels, dataset.parameter_labels) == (("H", "H2", "e-"), ("k", "T"))
    np.testing.assert_array_equal(dataset.timesteps, given["timesteps"])
    for name, split in dataset.splits():
        np.testing.assert_array_equal(split.trajectories, given[name])
        np.testing.assert_array_equal(split.parameters, given[f"{name}_params"])
        assert split.trajectories.dtype == split.parameters.dtype == dtype
    with h5py.File(path) as file:
        assert file.attrs["n_train_samples"] == 4


def test_only_the_splits_are_needed(path):
    given = arrays()
    dataset = read_dataset(store(path, {split: given[split] for split in ("train", "test", "val")}))
    assert dataset.spec == DataSpec(N_QUANTITIES, 0, N_TIMESTEPS)
    assert dataset.labels == ("q0", "q1", "q2")
    assert dataset.train.parameters is None and dataset.parameter_labels == ()
    path.unlink()
    assert read_dataset(store(path, given)).parameter_labels == ("p0", "p1")
    np.testing.assert_array_equal(dataset.timesteps, np.arange(N_TIMESTEPS))


@pytest.mark.parametrize(
    "labels",
    [["a", "b", "é"], np.array([b"a", b"b", "é".encode()]), np.array(["a", "b", "é"], dtype=h5py.string_dtype())],
    ids=["list", "bytes", "array"],
)
def test_labels_of_every_kind_are_read(path, labels):
    assert read_dataset(store(path, arrays(), labels=labels)).labels == ("a", "b", "é")


@pytest.mark.parametrize(
    "stored, read", [("float16", "float32"), (">f4", "float32"), (">f8", "float64"), ("i4", "float64")]
)
def test_other_number_types_are_converted(path, stored, read):
    given = {key: array.astype(stored) for key, array in arrays().items() if key != "timesteps"}
    trajectories = read_dataset(store(path, given)).train.trajectories
    assert trajectories.dtype == read
    np.testing.assert_array_equal(trajectories, given["train"].astype(read))


def test_compressed_files_are_read(path):
    given = arrays()
    with h5py.File(path, "w") as file:
        for key, array in given.items():
            file.create_dataset(key, data=array, compression="gzip", chunks=True)
    np.testing.assert_array_equal(read_dataset(path).val.trajectories, given["val"])


def change(key, index, value):
    def apply(given):
        given[key][index] = value

    return apply


def replace(key, make):
    def apply(given):
        given[key] = make(given[key])

    return apply


def drop(*keys):
    def apply(given):
        for key in keys:
            del given[key]

    return apply


BROKEN = {
    "missing split": (drop("val"), "split 'val' is missing; needs train, test, val, found train, test"),
    "rank": (replace("test", lambda x: x[0]), "'test' has shape [5, 3]; needs [n, n_timesteps, n_quantities]"),
    "empty split": (replace("val", lambda x: x[:0]), "'val' is empty, its shape is [0, 5, 3]"),
    "timesteps of splits": (
        replace("test", lambda x: x[:, :4]),
        "'test' has 4 timesteps and 3 quantities, but 'train' has 5 and 3",
    ),
    "quantities of splits": (
        replace("val", lambda x: x[..., :2]),
        "'val' has 5 timesteps and 2 quantities, but 'train' has 5 and 3",
    ),
    "parameters of some splits": (drop("train_params"), "'train_params' is missing, but there is 'test_params'"),
    "parameter rank": (
        replace("test_params", lambda p: p[:, 0]),
        "'test_params' has shape [3]; needs [n, n_parameters]",
    ),
    "parameter rows": (replace("val_params", lambda p: p[:1]), "'val_params' has 1 rows for 2 trajectories"),
    "parameter columns": (
        replace("val_params", lambda p: p[:, :1]),
        "'val_params' has 1 columns, but 'train_params' has 2",
    ),
    "number of timesteps": (
        replace("timesteps", lambda t: t[:4]),
        "'timesteps' has shape [4], but the trajectories have 5 timesteps",
    ),
    "decreasing timesteps": (
        change("timesteps", 2, 0.5),
        "'timesteps' must increase strictly, but timesteps[1] = 0.5 and timesteps[2] = 0.5",
    ),
    "infinite time": (change("timesteps", 4, np.inf), "timesteps[4] is inf; every value must be finite"),
    "nan": (change("train", (3, 4, 2), np.nan), "train[3, 4, 2] (c) is nan; every value must be finite"),
    "inf": (change("val", (1, 0, 1), -np.inf), "val[1, 0, 1] (b) is -inf; every value must be finite"),
    "nan parameter": (change("test_params", (2, 1), np.nan), "test_params[2, 1] is nan; every value must be finite"),
    "complex": (replace("train", lambda x: x * 1j), "'train' has type complex64; needs real numbers"),
    "text": (replace("test", lambda x: np.full(x.shape, b"1")), "'test' has type |S1; needs real numbers"),
}


@pytest.mark.parametrize("breaks, message", BROKEN.values(), ids=BROKEN)
def test_broken_datasets_are_refused_alike_on_reading_and_writing(tmp_path, breaks, message):
    given = arrays()
    breaks(given)
    whole = re.escape(f"{tmp_path / 'data.h5'}: {message}")
    with pytest.raises(UserError, match=whole):
        read_dataset(store(tmp_path / "data.h5", given, labels=["a", "b", "c"]))
    (tmp_path / "data.h5").unlink()
    with pytest.raises(UserError, match=whole):
        write_dataset(
            tmp_path / "data.h5", **{"train": None, "test": None, "val": None} | given, labels=["a", "b", "c"]
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda x: np.ma.masked_less(x, 1.5), "'train' has masked values"),
        (lambda x: [np.ma.masked_less(each, 1.5) for each in x], "'train' has masked values"),
        (lambda x: [x[0], x[1][:-1]], "'train' must be one array, but its rows differ in shape"),
    ],
    ids=["masked", "list of masked", "ragged"],
)
def test_what_is_no_whole_array_is_refused(path, make, message):
    given = arrays()
    given["train"] = make(given["train"])
    with pytest.raises(UserError, match=re.escape(f"{path}: {message}")):
        write_dataset(path, **given)
    with pytest.raises(UserError, match=message.replace("'train'", "trajectories")):
        split_trajectories(given["train"])


def test_an_array_whose_mask_hides_nothing_is_written(path):
    given = arrays()
    write_dataset(path, **{key: np.ma.masked_array(array) for key, array in given.items()})
    np.testing.assert_array_equal(read_dataset(path).train.trajectories, given["train"])


def test_one_timestep_is_refused(path):
    given = {key: array[:, :1] for key, array in arrays().items() if key in ("train", "test", "val")}
    with pytest.raises(UserError, match="at least 2 timesteps, 'train' has 1"):
        write_dataset(path, **given)


def test_wrong_number_of_labels_is_refused(path):
    with pytest.raises(UserError, match="2 labels for 3 quantities; got a, b"):
        write_dataset(path, **arrays(), labels=["a", "b"])
    with pytest.raises(UserError, match="4 labels for 3 quantities; got a, b, c, d"):
        read_spec(store(path, arrays(), labels=list("abcd")))
    with pytest.raises(UserError, match="3 parameter_labels for 2 parameters; got a, b, c"):
        write_dataset(path, **arrays(), parameter_labels=["a", "b", "c"])


def test_a_bad_parameter_is_told_by_its_name(path):
    given = arrays()
    given["val_params"][0, 1] = np.nan
    with pytest.raises(UserError, match=r"val_params\[0, 1\] \(T\) is nan"):
        write_dataset(path, **given, parameter_labels=["k", "T"])


def test_labels_of_one_name_are_not_written_and_told_when_read(path, caplog):
    with pytest.raises(UserError, match=re.escape(f"{path}: each quantity needs a label of its own; got a, b, a")):
        write_dataset(path, **arrays(), labels=["a", "b", "a"])
    read_dataset(store(path, arrays(), labels=["a", "b", "a"]))  # a file that others have published
    assert "two quantities have one label, so nothing tells them apart: a, b, a" in caplog.text
    with pytest.raises(UserError, match="each parameter needs a label of its own; got k, k"):
        write_dataset(path, **arrays(), parameter_labels=["k", "k"])


@pytest.mark.parametrize("blank", ["", " "])
def test_a_blank_label_is_not_written_and_told_when_read(path, blank, caplog):
    with pytest.raises(UserError, match=f"labels must be texts, not blank, .* but one is '{blank}'"):
        write_dataset(path, **arrays(), labels=["a", blank, "c"])
    dataset = read_dataset(store(path, arrays(), labels=["a", blank, "c"]))
    assert f"one of the quantities has a blank label: 'a', {blank!r}, 'c'" in caplog.text
    assert told_apart(dataset.labels) == ("q0", "q1", "q2")


def test_labels_of_numpy_are_written(path):
    write_dataset(path, **arrays(), labels=np.array(["a", "b", "é"]))
    assert read_dataset(path).labels == ("a", "b", "é")


@pytest.mark.parametrize(
    "labels, message",
    [
        ([None, "b", "c"], "labels must be texts, not blank, without NUL characters, but one is None"),
        ([["a", "b", "c"]] * 3, "labels must be texts, not blank, without NUL characters, but one is ['a', 'b', 'c']"),
        (["a", "b", "c\0"], r"labels must be texts, not blank, without NUL characters, but one is 'c\x00'"),
        ("abc", "labels must be a list of names, one per quantity, but is 'abc'"),
    ],
)
def test_what_is_no_label_is_refused(path, labels, message):
    with pytest.raises(UserError, match=re.escape(message)):
        write_dataset(path, **arrays(), labels=labels)
    assert not path.exists()


def test_the_first_bad_value_is_named_in_a_long_array(path):
    given = arrays()
    given["train"] = np.random.default_rng(1).uniform(size=(60_000, N_TIMESTEPS, N_QUANTITIES))
    given["train_params"] = np.ones((60_000, 2))
    given["train"][[50_001, 59_999]] = np.nan
    with pytest.raises(UserError, match=re.escape("train[50001, 0, 0]")):
        write_dataset(path, **given)


def test_writing_replaces_a_file_and_makes_its_folder(tmp_path):
    path = tmp_path / "new" / "data.h5"
    given = arrays()
    write_dataset(path, **given)
    given["train"] += 1
    write_dataset(path, **given)
    np.testing.assert_array_equal(read_dataset(path).train.trajectories, given["train"])
    assert os.listdir(path.parent) == ["data.h5"]


def test_a_failed_writing_leaves_the_old_file(tmp_path):
    (tmp_path / "data.h5").mkdir()
    with pytest.raises(UserError, match="cannot be written: Is a directory"):
        write_dataset(tmp_path / "data.h5", **arrays())
    assert os.listdir(tmp_path) == ["data.h5"]
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written: File exists"):
        write_dataset(tmp_path / "file" / "data.h5", **arrays())


def test_an_array_that_is_not_read_is_told(path, caplog):
    given = {key.removesuffix("s") if "params" in key else key: array for key, array in arrays().items()}
    assert read_dataset(store(path, {**given, "notes": 1.0})).train.parameters is None
    (message,) = caplog.messages
    assert message.startswith(f"{path}: test_param, train_param, val_param is not read; what is read is train, test")


def test_a_name_that_is_not_utf8_is_nothing_of_ours(path):
    with h5py.File(store(path, arrays()), "a") as file:
        file[b"caf\xe9"] = 1
    assert read_dataset(path).spec == read_spec(path)


@pytest.mark.parametrize("dtype", ["S1", h5py.string_dtype()], ids=["fixed", "variable"])
def test_a_label_that_is_not_utf8_is_told(path, dtype):
    store(path, arrays(), labels=np.array([b"a", b"b", b"\xe9"], dtype=dtype))
    with pytest.raises(UserError, match=r"the label .* is not UTF-8; write the attribute 'labels' again"):
        read_dataset(path)


def test_a_file_may_have_the_longest_name(tmp_path):
    write_dataset(tmp_path / ("a" * 252 + ".h5"), **arrays())
    with pytest.raises(UserError, match="File name too long"):
        write_dataset(tmp_path / ("a" * 253 + ".h5"), **arrays())
    assert len(list(tmp_path.iterdir())) == 1


def test_the_page_tells_what_a_file_may_hold_and_how_it_is_scaled(tmp_path, monkeypatch):
    page = (ROOT / "docs/datasets.md").read_text()
    named = [*ARRAYS, "labels", "parameter_labels"]
    named += ["log10_transform", "log10_transform_params", "tolerance", "normalise", "time_scale"]
    assert [name for name in named if not re.search(rf"`(dataset\.)?{name}`", page)] == []
    monkeypatch.chdir(tmp_path)
    (example,) = re.findall(r"```python\n(.*?)```", page, re.S)
    rng = np.random.default_rng(0)
    exec(example, {"x": rng.uniform(size=(20, 5, 2)), "p": rng.uniform(size=(20, 2)), "t": np.arange(5)})
    assert read_spec("my.h5") == DataSpec(2, 2, 5)
