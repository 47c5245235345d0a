"""A study goes on with the configuration that it was started with, or not at all."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from codes.errors import UserError
from codes.files import write_atomically
from codes.tuning.tables import table

STORED = "optuna_config.yaml"
# What may differ from one launch to the next: no trial depends on it.
FREE = {"trials", "devices", "max_invalid", "dataset.n_parameters", "dataset.data_dir"}


class ConfigChanged(UserError):
    """A study is to be resumed with another configuration."""

    exit_code = 2


def keep_config(config: DictConfig, folder: Path) -> None:
    """Write the configuration of a study that starts, interpolations as they are."""
    write_atomically(folder / STORED, OmegaConf.to_yaml(config))


def check_config(config: DictConfig, folder: Path) -> None:
    """Compare with the configuration kept in ``folder``; raises ``ConfigChanged`` with every key that differs."""
    path = folder / STORED
    if not path.exists():
        raise ConfigChanged(
            f"{path} is missing, so that this study cannot be resumed safely; "
            "restore it, or start another study with tuning_id=..."
        )
    rows = changes(_plain(OmegaConf.load(path)), _plain(config))
    if rows:
        raise ConfigChanged(
            f"{path}: the study was started with another configuration\n\n"
            + table(("key", "stored", "now"), rows)
            + "\n\nrestore these values, or start another study with tuning_id=..."
        )


def changes(stored: Mapping[str, Any], now: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Key, stored and present value of every leaf that differs; ``-`` where there is none."""
    old, new = dict(_leaves(stored)), dict(_leaves(now))
    keys = [key for key in {**old, **new} if key not in FREE]
    return [
        (key, str(old.get(key, "-")), str(new.get(key, "-")))
        for key in keys
        if key not in old or key not in new or old[key] != new[key]
    ]


def _plain(config: Any) -> Mapping[str, Any]:
    plain = OmegaConf.to_container(config, resolve=False)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def _leaves(tree: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", value
