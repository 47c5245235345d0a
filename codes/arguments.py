"""What was typed to start a Hydra job, and what is to be typed to go on with it."""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

WIDTH = 96  # of a suggested command


def typed(hydra: Any) -> list[str]:
    """Overrides of a Hydra job as they were typed; to read them one by one would resolve interpolations in them."""
    overrides: Any = OmegaConf.to_container(hydra.overrides.task, resolve=False)
    return list(overrides)


def repeated(hydra: Any) -> list[str]:
    """Arguments that compose the same config again, for the commands that are suggested."""
    here = Path(hydra.runtime.cwd)
    given = [Path(source.path) for source in hydra.runtime.config_sources if source.provider == "command-line"]
    folders = [path.relative_to(here) if path.is_relative_to(here) else path for path in given]
    flags = [f"--config-dir={folder}" for folder in folders]
    if hydra.job.config_name != hydra.job.name:  # that of the script
        flags.append(f"--config-name={hydra.job.config_name}")
    return [*flags, *typed(hydra)]


def script(name: str) -> str:
    """Where ``train.py`` or ``tune.py`` is, seen from here: beside the one that runs, else beside this package."""
    called = Path(sys.argv[0])
    if called.name in ("train.py", "tune.py"):
        return str(called.with_name(name))
    there = Path(__file__).resolve().parents[1] / name
    return name if there == Path(name).resolve() or not there.exists() else str(there)


def command_line(name: str, arguments: Sequence[str]) -> str:
    """A command to be copied, broken where it gets too wide for a terminal; ``name`` is that of the script."""
    lines = [f"  python {shlex.quote(script(name))}"]
    for word in map(shlex.quote, arguments):
        if len(lines[-1]) + len(word) > WIDTH:
            lines[-1] += " \\"
            lines.append("     ")
        lines[-1] += f" {word}"
    return "\n".join(lines)
