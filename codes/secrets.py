"""Passwords of a database: taken away from wherever they are given before anything writes that down.

They stay in the memory of this process: Hydra's files, logs, suggested commands, configs of trials and the environment
of child processes have none. Only this process's own entry in the process list is out of reach.
"""

import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path

from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from codes.errors import UserError, did_you_mean
from codes.files import write_atomically
from codes.schema import STORAGE_SCHEMAS

KEY = "storage.password"
VARIABLE = "PGPASSWORD"
MASK = "'***'"
# With the lines in which a value goes on.
IN_YAML = re.compile(r"^( *)(\w*password:) (?!null$|\?\?\?$).+(\n+\1 .*)*$", re.MULTILINE | re.IGNORECASE)
UNREADABLE = (
    f"{KEY}: is no text; put it in single quotes, with \\${{ for its ${{, or give it in {VARIABLE} or ~/.pgpass"
)
INSIDE = re.compile(r"password['\"]?\s*[:=]", re.IGNORECASE)  # of a mapping, a key in quotes or one that is removed
ESCAPED = re.compile(r"\\([\\()\[\]{}:=, \t])")  # Hydra's ESC
IN_URL = re.compile(r"(://[^\s:/@]*:)[^\s@]+@")

_environment: list[str] = []
_given: list[str] = []  # on the command line or in a config file; the last one counts


def from_environment() -> str | None:
    """What ``PGPASSWORD`` was, if ``take`` has found it."""
    return _environment[-1] if _environment else None


def given() -> str | None:
    """What ``storage.password`` was, on the command line or in a config."""
    return _given[-1] if _given else None


def known() -> tuple[list[str], list[str]]:
    """All that was taken, for ``know`` in another process."""
    return _environment, _given


def know(taken: tuple[list[str], list[str]]) -> None:
    """Have what ``known`` gave in another process."""
    _environment[:], _given[:] = taken


def take(arguments: Sequence[str]) -> list[str]:
    """``arguments`` without the password; also takes ``PGPASSWORD`` out of the environment, which children inherit.

    Raises ``UserError`` for one in another place, and for a key of ``storage`` that there is not: perhaps mistyped.
    """
    if VARIABLE in os.environ:
        _environment.append(os.environ.pop(VARIABLE))
    kept = []
    for argument in arguments:
        key, _, value = argument.partition("=")
        if key.lstrip("+") == KEY:
            _given.append(_unquoted(value))
            sys.stderr.write(
                f"warning: {KEY} on the command line is shown by the process list while this runs; "
                f"set {VARIABLE} or use ~/.pgpass instead\n"
            )
        else:
            _refuse_inside(key, argument)
            _refuse_unknown(key.lstrip("+"))
            kept.append(argument)
    return kept


def take_from_config(config: DictConfig) -> None:
    """Take ``storage.password`` out of a composed config; raises ``UserError`` where it has no value, without it."""
    if "storage" not in config:  # as in train.py, or without a value
        return
    try:
        password = config.storage.get("password")
    except OmegaConfBaseException as error:  # whose message has what stands in the braces
        raise UserError(UNREADABLE) from error
    if password is not None:
        _given.append(str(password))
        config.storage.password = None


def refuse_elsewhere(config: DictConfig) -> None:
    """Raise ``UserError`` for a password that is left in a composed config, for example in an address."""
    for key, value in _leaves(OmegaConf.to_container(config)):
        _refuse_inside(key, f"{key}={value}")
    for key, value in _leaves(OmegaConf.to_container(config.hydra.sweeper, resolve=True), "hydra.sweeper"):
        _refuse_inside(key, f"{key}={value}")  # which shows its address, also one from the environment


def masked(text: str) -> str:
    """YAML without the values of keys that are called ``password``, and without those of addresses."""
    return IN_URL.sub(r"\1***@", IN_YAML.sub(rf"\1\2 {MASK}", text))


def mask_files(folder: Path) -> None:
    """Mask passwords in the YAML files of a folder, if there is one."""
    for path in sorted(folder.glob("*.yaml")):
        text = path.read_text()
        if masked(text) != text:
            write_atomically(path, masked(text))


def _refuse_inside(key: str, text: str) -> None:
    if INSIDE.search(text) or IN_URL.search(text):
        inside = IN_URL.sub("...", key)
        raise UserError(f"give a password in {VARIABLE} or ~/.pgpass, or as {KEY}=..., not inside of {inside}")


def _refuse_unknown(key: str) -> None:
    section, _, name = key.partition(".")
    keys = sorted({field.name for schema in STORAGE_SCHEMAS.values() for field in fields(schema)})
    if section == "storage" and name and name not in keys:
        hint = did_you_mean(name, keys)
        raise UserError(f"{key}: is not a key of storage; {hint}choose from {', '.join(keys)}")


def _leaves(node: object, key: str = "") -> Iterator[tuple[str, object]]:
    """Dotted keys and values of all that is set; an element of a list has the list's key."""
    if isinstance(node, dict):
        for name, child in node.items():
            yield from _leaves(child, f"{key}.{name}" if key else str(name))
    elif isinstance(node, list):
        for child in node:
            yield from _leaves(child, key)
    elif node not in (None, MISSING):
        yield key, node


def _unquoted(value: str) -> str:
    """Text that Hydra would read: without its quotes, or without the backslashes before special characters."""
    if len(value) < 2 or value[0] != value[-1] or value[0] not in "'\"":
        return ESCAPED.sub(r"\1", value)
    # Inside, backslashes stand for themselves but before a quote, that at the end included.
    before_a_quote = re.compile(rf"(\\+)({value[0]}|\Z)")
    return before_a_quote.sub(lambda found: found[1][: len(found[1]) // 2] + found[2], value[1:-1])
