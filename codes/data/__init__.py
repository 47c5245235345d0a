"""Trajectories: files, sources, and the scaled tensors made of them."""

from codes.data.dataset import Dataset, Split, split_trajectories
from codes.data.hdf5 import read_dataset, read_spec, write_dataset
from codes.data.prepared import PreparedData, TensorSplit, prepare
from codes.data.source import file_content, load_data, load_data_once, locate
from codes.data.transform import Transform

__all__ = [
    "Dataset",
    "PreparedData",
    "Split",
    "TensorSplit",
    "Transform",
    "file_content",
    "load_data",
    "load_data_once",
    "locate",
    "prepare",
    "read_dataset",
    "read_spec",
    "split_trajectories",
    "write_dataset",
]
