"""Where each tuned range comes from: the files that Hydra merged, in their order, and the command line."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.default_element import ResultDefault
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import OmegaConf

from codes.arguments import typed
from codes.tuning.space import SECTION

Layer = tuple[str, Any]  # a file or the command line, and what it says below search_space
EVERY = "*"  # stands for all names that are not named
COMMAND_LINE = "command line"


def origins(layers: Iterable[Layer]) -> dict[str, str]:
    """For each dotted name the layer that has the last word on it, and in brackets those that it goes over.

    A layer that computes the whole search space by an interpolation takes the place of all before it, as ``EVERY``.
    """
    chains: dict[str, dict[str, None]] = {}  # ordered sets
    for label, tree in layers:
        if isinstance(tree, str) and "${" in tree:
            chains = {EVERY: {label: None}}
        elif isinstance(tree, Mapping):
            for name in _names(tree):
                chain = chains.setdefault(name, dict(chains.get(EVERY, {})))
                chain.pop(label, None)
                chain[label] = None
    return {name: _text(list(chain)) for name, chain in chains.items()}


def origin_of(name: str, known: Mapping[str, str]) -> str:
    """What ``known``, made by ``origins``, says of ``name``."""
    return known.get(name) or known.get(EVERY, "config")


def composed_layers() -> list[Layer]:
    """Layers of the running Hydra job; none where Hydra is not there to be asked."""
    if not (GlobalHydra.instance().is_initialized() and HydraConfig.initialized()):
        return []
    hydra = HydraConfig.get()
    overrides = typed(hydra)
    merged = (
        GlobalHydra.instance()
        .config_loader()
        .compute_defaults_list(hydra.job.config_name, [*hydra.overrides.hydra, *overrides], RunMode.RUN)
    )
    folders = [Path(source.path) for source in hydra.runtime.config_sources if source.schema == "file"]
    files = [(_label(default), _below_section(default, folders)) for default in merged.defaults]
    return [*files, *_typed_layers(overrides)]


def _typed_layers(overrides: Sequence[str]) -> Iterator[Layer]:
    """What each override of the command line says of the search space."""
    for override in OverridesParser.create().parse_overrides(list(overrides)):
        section, _, path = override.key_or_group.partition(".")
        if section == SECTION and path:
            tree = None if override.is_delete() else override.value()
            for part in reversed(path.split(".")):
                tree = {part: tree}
            yield COMMAND_LINE, tree


def _below_section(default: ResultDefault, folders: Iterable[Path]) -> Any:
    """``search_space`` in a config file, whichever part of the config that fills; None if it says nothing of it."""
    package = default.package.split(".") if default.package else []
    if package and package[0] != SECTION:
        return None
    paths = [folder / f"{default.config_path}.yaml" for folder in folders]
    path = next((path for path in paths if path.is_file()), None)  # as Hydra: the first folder that has it
    content: Any = OmegaConf.to_container(OmegaConf.load(path)) if path else {}
    for part in reversed(package):
        content = {part: content}
    return content.get(SECTION)


def _names(tree: Mapping[Any, Any], path: str = "") -> Iterator[str]:
    """Dotted names of all mappings in ``tree``: entries, and the sections that they lie in."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield f"{path}{key}"
            yield from _names(value, f"{path}{key}.")


def _label(default: ResultDefault) -> str:
    """Path of a config file, short for the search spaces' own folder."""
    return f"{(default.config_path or '').removeprefix(SECTION + '/')}.yaml"


def _text(chain: Sequence[str]) -> str:
    *before, last = chain
    return f"{last} (over {', '.join(reversed(before))})" if before else last
