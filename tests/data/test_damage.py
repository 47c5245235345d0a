"""Files that are no whole dataset: cut off, damaged, unfinished, in use, or with values elsewhere."""

import subprocess
import sys

import h5py
import numpy as np
import pytest

from codes.data import read_dataset, read_spec, write_dataset
from codes.errors import UserError
from tests.data.files import N_QUANTITIES, N_TIMESTEPS, arrays, store


def test_what_is_no_hdf5_file_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"nowhere\.h5 does not exist"):
        read_dataset(tmp_path / "nowhere.h5")
    with pytest.raises(UserError, match="is a folder, not an HDF5 file"):
        read_dataset(tmp_path)
    for content in (b"", b"t,H,H2\n0,1,2\n"):
        (tmp_path / "data.csv").write_bytes(content)
        with pytest.raises(UserError, match=r"data\.csv is not an HDF5 file"):
            read_dataset(tmp_path / "data.csv")


def test_a_file_cut_anywhere_is_refused(path):
    whole = write_dataset(path, **arrays()).read_bytes()
    for size in range(1, len(whole), 97):
        path.write_bytes(whole[:size])
        with pytest.raises(UserError, match=r"is not an HDF5 file|cannot be read: .*; it may be cut off, get it again"):
            read_dataset(path)


def test_damage_in_the_header_is_told_in_one_line(path):
    whole = write_dataset(path, **arrays()).read_bytes()
    refused = 0
    for start in range(0, 2048, 64):
        path.write_bytes(whole[:start] + bytes(64) + whole[start + 64 :])
        try:
            read_dataset(path)  # a gap may be hit, which nothing depends on
        except UserError as error:
            refused += 1
            assert str(error).startswith(str(path)) and "\n" not in str(error)
    assert refused > 10


def test_a_group_in_place_of_an_array_is_refused(path):
    given = arrays()
    del given["val"]
    store(path, given)
    with h5py.File(path, "a") as file:
        file.create_group("val")
    with pytest.raises(UserError, match="'val' is not an array"):
        read_spec(path)


def virtual(file, array):
    layout = h5py.VirtualLayout(array.shape, array.dtype)
    layout[:] = h5py.VirtualSource("gone.h5", "train", array.shape)
    file.create_virtual_dataset("train", layout)


def linked(file, array):
    with h5py.File(f"{file.filename}.part", "w") as other:
        other["train"] = array
    file["train"] = h5py.ExternalLink(f"{file.filename}.part", "/train")


def raw(file, array):
    array.tofile(f"{file.filename}.raw")
    parts = [(f"{file.filename}.raw", 0, h5py.h5f.UNLIMITED)]
    file.create_dataset("train", array.shape, array.dtype, external=parts)


@pytest.mark.parametrize("elsewhere", [virtual, linked, raw])
def test_values_that_lie_in_other_files_are_refused(path, elsewhere):
    given = arrays()
    with h5py.File(store(path, {key: given[key] for key in given if key != "train"}), "a") as file:
        elsewhere(file, given["train"])
    for read in (read_spec, read_dataset):
        with pytest.raises(UserError, match="'train' lies in other files; copy its values into this one"):
            read(path)


@pytest.mark.parametrize(("chunks", "written"), [(None, 0), (True, 0), ((1, 5, 3), 3)])
def test_an_array_that_was_not_written_to_its_end_is_refused(path, chunks, written):
    given = arrays()
    train = given.pop("train")
    with h5py.File(store(path, given), "a") as file:
        stored = file.create_dataset("train", train.shape, train.dtype, chunks=chunks)
        if written:
            stored[:written] = train[:written]
    with pytest.raises(UserError, match=r"'train' was not written to its end; write all \[4, 5, 3\] of it"):
        read_dataset(path)


@pytest.mark.parametrize("options", [{"chunks": (1, 2, 2)}, {"compression": "gzip"}, {"maxshape": (None, 5, 3)}])
def test_zeros_that_were_written_are_read(path, options):
    given = arrays() | {"val": np.zeros((2, N_TIMESTEPS, N_QUANTITIES))}
    with h5py.File(store(path, {key: given[key] for key in given if key != "val"}), "a") as file:
        file.create_dataset("val", data=given["val"], **options)
    np.testing.assert_array_equal(read_dataset(path).val.trajectories, given["val"])


def test_a_file_that_is_being_written_is_told(path):
    write_dataset(path, **arrays())
    write = "import sys, h5py; file = h5py.File(sys.argv[1], 'a'); print(flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", write, path], stdin=-1, stdout=-1) as other:
        other.stdout.readline()
        with pytest.raises(UserError, match="close it in the program that writes it"):
            read_dataset(path)
        other.stdin.close()
