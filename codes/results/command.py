"""What the commands ``python -m codes.<name>`` have in common."""

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import optuna

from codes import cli
from codes.results.opening import split_arguments


def run(usage: str | None, own: Mapping[str, Any], main: Callable[[dict[str, Any], Sequence[str]], str]) -> None:
    """Print what ``main`` returns for the values of its ``own`` keys and the overrides of ``tune.py`` that are left.

    ``--help`` prints ``usage``. Bad input ends with exit code 1 and one message.
    """
    if {"-h", "--help"} & set(sys.argv[1:]):
        sys.stdout.write(f"{(usage or '').strip()}\n")
        return

    def command() -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        values, overrides = split_arguments(sys.argv[1:], own)  # without a password by now
        sys.stdout.write(f"{main(values, overrides)}\n")

    cli.run(command)
