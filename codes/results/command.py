"""What the commands ``python -m codes.<name>`` have in common."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any

import optuna

from codes import cli, groups
from codes.errors import UserError, did_you_mean
from codes.results.opening import split_arguments
from codes.schema import TuneConfig


def run(
    usage: str | None,
    own: Mapping[str, Any],
    main: Callable[[dict[str, Any], Sequence[str]], str],
    *,
    of_a_study: bool = True,
) -> None:
    """Print what ``main`` returns for the values of its ``own`` keys and the overrides that are left.

    Those of a command ``of_a_study`` are for ``tune.py``. ``--help`` prints ``usage``. Bad input ends with exit code 1
    and one message.
    """
    if {"-h", "--help"} & set(sys.argv[1:]):
        sys.stdout.write(f"{(usage or '').strip()}\n")
        return

    def command() -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        values, overrides = split_arguments(sys.argv[1:], own)  # without a password by now
        if of_a_study:
            _refuse_unknown(overrides, list(own))
        sys.stdout.write(f"{main(values, overrides)}\n")

    cli.run(command)


def _refuse_unknown(overrides: Sequence[str], own: Sequence[str]) -> None:
    """Raise ``UserError`` for a key that neither the command nor ``tune.py`` has; Hydra would know of the latter's."""
    known = [*(field.name for field in fields(TuneConfig)), *groups.INSTEAD, *cli.OLDER_STYLE, "hydra"]
    for text in overrides:
        key, equals, _ = text.partition("=")
        if equals and key.isidentifier() and key not in known:
            hint = did_you_mean(key, own) or did_you_mean(key, known)
            has = f"this command has {', '.join(own)}, and takes" if own else "this command takes"
            raise UserError(f"{key}: there is no such key; {hint}{has} what tune.py takes to find the study")
