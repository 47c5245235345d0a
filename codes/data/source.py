"""Where a dataset comes from: a file of the user, a built-in ODE system, or a public record."""

from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from omegaconf import MISSING, MissingMandatoryValue, OmegaConf

from codes.data.hdf5 import read_dataset
from codes.data.prepared import PreparedData, prepare
from codes.errors import DataReplaced, UserError
from codes.schema import DatasetConfig


def load_data(config: DatasetConfig, device: torch.device | str = "cpu") -> PreparedData:
    """Locate, read, check and scale a dataset, and move it to ``device``.

    Raises:
        DataReplaced: the file is not the one of ``config.content``, or gone.
        UserError: what reading and scaling raise.
    """
    path = locate(config)
    dataset = read_dataset(path)
    if config.content is not None and file_content(path) != config.content:
        raise DataReplaced(
            f"{path}: has been replaced since the study was started; restore the file, or start another study"
        )
    return prepare(dataset, config, overwrite=True).to(device)


def file_content(path: Path) -> str:
    """SHA-256 of a file."""
    import pooch

    return str(pooch.file_hash(str(path)))


@lru_cache(maxsize=1)
def load_data_once(config: str, device: str) -> PreparedData:
    """Data of a dataset config, given as YAML, which stay on the device for the next training of this process."""
    typed = OmegaConf.merge(DatasetConfig, OmegaConf.create(config))
    return load_data(OmegaConf.to_object(typed), device)  # type: ignore[arg-type]


def locate(config: DatasetConfig) -> Path:
    """Path of the dataset's HDF5 file; generates or downloads it at first use.

    Raises:
        UserError: the file does not exist, the config lacks what its ``source`` needs, or names a file with another
            ``source``.
    """
    sources = {"file": _file, "generate": _generated, "download": _downloaded}
    if config.source not in sources:
        raise UserError(f"dataset.source: '{config.source}' is unknown; choose from {', '.join(sources)}")
    if config.source != "file" and config.path is not None:
        raise UserError(
            f"dataset.path: '{config.path}' would not be read, since dataset.source={config.source}; "
            "add dataset=hdf5, or leave dataset.path out"
        )
    return sources[config.source](config)


def _file(config: DatasetConfig) -> Path:
    given = _required(config, "path", "the HDF5 file to read, for example dataset.path=my.h5")
    path = Path(given).expanduser()
    if not path.exists():
        if config.content is not None:
            raise DataReplaced(f"{path}: is gone since the study was started; restore the file, or start another study")
        raise UserError(f"dataset.path: '{given}' does not exist; looked in {Path.cwd()}")
    return path


def _generated(config: DatasetConfig) -> Path:
    from codes.data.generate import generate  # the ODE systems are of use here only

    return generate(_required(config, "generate", "the ODE system to integrate"), _folder(config))


def _downloaded(config: DatasetConfig) -> Path:
    from codes.data.download import download  # so is the HTTP client

    return download(config.name, _required(config, "url", "the public file's address"), _folder(config))


def _folder(config: DatasetConfig) -> Path:
    return Path(config.data_dir).expanduser()


def _required(config: DatasetConfig, key: str, meaning: str) -> Any:
    try:
        value = getattr(config, key)
    except MissingMandatoryValue:  # a DictConfig says so; a dataclass just holds the marker
        value = None
    if value is None or value == MISSING:
        raise UserError(f"dataset.{key} is not given; with dataset.source={config.source} it is {meaning}")
    return value
