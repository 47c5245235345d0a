"""What a user sees when a command fails: one message for what was foreseen, a traceback for a bug."""

import gc
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import is_dataclass
from errno import EDQUOT, ENOSPC
from io import StringIO, TextIOWrapper
from pathlib import Path
from typing import Any

import yaml
from hydra._internal.utils import get_args_parser
from hydra.errors import CompactHydraException, HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from codes import groups, secrets
from codes.errors import StopTraining, UserError, did_you_mean
from codes.memory import is_out_of_memory
from codes.signals import INTERRUPTED, like_ctrl_c

# New objects between two looks for garbage. With the 700 of Python these take a tenth of the time of a short command,
# for what libraries make while they are imported stays.
RARELY = 20_000
OF_A_RESOLVER = "UserError raised while resolving interpolation: "
OF_OMEGACONF = re.compile(r"\n    (?:full_key: (?P<key>.*)|(?:reference|object)_type=.*)")
APPEND = re.compile(r"\nTo append to your config use \+.*")


def _no_such_choice(found: re.Match[str]) -> str:
    place, group, name, choices = found.groups()
    known = choices.split()
    where = f"In '{place}': " if place and "/" in place and not place.startswith("hydra/") else ""
    return f"{where}{group}: there is no {name}; {did_you_mean(name, known)}choose from {', '.join(known)}"


WORDED: list[tuple[str, str | Callable[[re.Match[str]], str]]] = [  # messages of Hydra, and what a user can do
    (r"Additional config directory '(.*)' not found", r"--config-dir: \1 is not a folder; make it first"),
    (
        r"Error merging override .*\nCannot set '(.*)' because '(?:fine|known|explore)' is None",
        r"\1: is of the fine stage only; add search_space=fine",
    ),
    (
        r"Error merging override \+*([^=\s]+)=(.*)\nInvalid value assigned: \w+ is not a ListConfig.*",
        r"\1: must be a list but got \2; type \1=[\2]",
    ),
    (
        r"In ('.*'): .*\nInvalid value assigned: \w+ is not a ListConfig.*",
        r"must be a list; put the value of \1 in [ ]",
    ),
    (
        r"In '((\w+)/[^']*)': (?:ConfigKeyError raised while composing config:\nKey '\2' not in"
        r"|Invalid Defaults List override .*\nNo earlier Group Default for '.*@\2[.'])[^\n]*",
        r"\1: the first line of that file must be `# @package _global_`, so that its keys are those of the config",
    ),
    (
        r"Structured config of type `DatasetConfig` has missing mandatory value: data_dir",
        r"must be set; the file of a dataset begins with `defaults: [/base/dataset@_here_, _self_]`, which sets it",
    ),
    (
        r"(?:In '(.*)': )?Could not find '(.*)/(.*)'\n\nAvailable options in '\2':\n((?:\t.*\n)+)"
        r"Config search path:(?:\n\t.*)*",
        _no_such_choice,
    ),
    (r"Missing mandatory value: (.*)", r"\1: must be set, on the command line or in a config file"),
    (  # a list, a mapping and a sweep are left to Hydra's own message
        r"(?s)Error when parsing index: \d+, string: ([^'\"=]+)=(?![\[{]|\w+\()([^'\"]*) out of .*",
        r"\1: a value with letters beyond ASCII, = ( ) [ ] { } , or several ${ } needs quotes of its own, "
        r"""inside those of the shell: '\1="\2"'""",
    ),
]
OLDER_STYLE = {  # keys of YAML tuning configs, and what is typed instead
    "postgres_config": "storage=postgres storage.database_folder=... for a private server, "
    "storage=postgres storage.mode=remote storage.host=... storage.user=... for another; see docs/storage.md",
}


def run(main: Callable[[], Any]) -> None:
    """Run a Hydra main; exit with 1 and one message on bad input, let the traceback of anything unforeseen through.

    ``HYDRA_FULL_ERROR=1`` in the environment shows the traceback of bad input too.
    """
    if sys.platform == "win32":  # without the locks of Unix a training fails at its end
        sys.exit("error: Windows itself is not supported; run this in its Subsystem for Linux (WSL)")
    show_traceback = os.environ.get("HYDRA_FULL_ERROR") == "1"
    logging.raiseExceptions = False  # a log file on a full disk: the error itself is told once, below
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra hands the exception on, so that the message is ours
    # Threads that spin while they wait make small networks ten times slower as soon as something else runs.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    gc.set_threshold(RARELY)
    _have_streams()
    try:
        sys.argv[1:] = secrets.take(sys.argv[1:])
        groups.refuse_none(sys.argv[1:])
        with like_ctrl_c(), _masked_config(sys.argv[1:]):
            main()
    except KeyboardInterrupt:
        sys.stderr.write("\ninterrupted\n")
        sys.exit(INTERRUPTED)
    except Exception as error:
        message = explain(error)
        if message is None or show_traceback:
            raise
        sys.stderr.write(f"error: {message}\n")
        sys.exit(error.exit_code if isinstance(error, UserError) else 1)


def _have_streams() -> None:
    """Have what is printed fail neither by a character that the terminal does not have, nor without a stream."""
    for number in range(3):  # else the next file that is opened, here or by a child, takes the number of a closed one
        try:
            os.fstat(number)
        except OSError:
            os.dup2(os.open(os.devnull, os.O_RDWR), number)
            os.set_inheritable(number, True)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by whoever started this, as by `>&-`
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115
        elif isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


@contextmanager
def _masked_config(arguments: Sequence[str]) -> Iterator[None]:
    """Where Hydra is asked to print a config, without its passwords."""
    flags, _ = get_args_parser().parse_known_args(arguments)  # it takes --cf and -cjob too
    if flags.cfg is None and flags.info is None:
        yield
        return
    printed = StringIO()
    try:
        with redirect_stdout(printed):
            yield
    finally:
        sys.stdout.write(secrets.masked(printed.getvalue()))


def explain(error: Exception) -> str | None:
    """Message for an error that a user can mend, or None for a bug."""
    if isinstance(error, UserError | StopTraining):
        return str(error)
    if isinstance(error, HydraException | OmegaConfBaseException):
        return _explain_config(error)
    if isinstance(error, yaml.YAMLError):  # without its text, which may be a password
        mark = getattr(error, "problem_mark", None)
        place = f"{mark.name}, line {mark.line + 1}" if mark else "a config file"
        return f"{place}: is no YAML; put text with special characters in quotes"
    if isinstance(error, ValueError) and isinstance(error.__cause__, OSError):  # of logging, which cannot open its file
        return explain(error.__cause__)
    if is_out_of_memory(error):  # NumPy and PyTorch say how much they wanted, Python does not
        wanted = str(error).partition("\n")[0].rpartition("DefaultCPUAllocator: ")[2]
        told = f"out of memory: {wanted}" if wanted else "out of memory"
        return f"{told}; a smaller network, trainer.batch_size or dataset takes less"
    if isinstance(error, OSError):
        path = error.filename2 or error.filename  # the second one is that which a new file was to become
        if path is None and error.errno in (ENOSPC, EDQUOT):  # as where Hydra writes
            return f"{error.strerror}; make room where the outputs go, by default {Path('outputs').absolute()}"
        return f"{error.strerror or error}" + (f": {path}" if path else "")
    return None


def _explain_config(error: Exception) -> str:
    """Hydra's message with its cause, and the keys to choose from where a key is unknown."""
    if str(error).startswith(OF_A_RESOLVER):  # which has said all that there is to say
        return str(error).removeprefix(OF_A_RESOLVER).partition("\n    full_key")[0]
    cause = error.__cause__
    if any(found["key"] == secrets.KEY for found in OF_OMEGACONF.finditer(f"{error}\n{cause}")):
        return secrets.UNREADABLE  # without its value
    lines = [str(error)]
    if isinstance(error, CompactHydraException) and isinstance(cause, OmegaConfBaseException):
        lines.append(str(cause))
    lines = [_worded("\n".join(lines), cause)]
    for candidate in (error, cause):
        if isinstance(candidate, ConfigKeyError | ConfigAttributeError):
            lines += _deeper(candidate)
            keys = _known_keys(candidate.parent_node)
            if keys:
                lines.append(f"keys here: {', '.join(keys)}")
    lines += [_older_style(key) for key in OLDER_STYLE if f"'{key}'" in f"{error} {cause}"]
    return "\n".join(lines)


def _worded(text: str, cause: BaseException | None) -> str:
    """Hydra's message in words of this project, the key first where nothing else names it."""
    key = next((found["key"] for found in OF_OMEGACONF.finditer(text) if found["key"]), None)
    text = OF_OMEGACONF.sub("", text)
    section = getattr(cause, "parent_node", None)
    if (
        isinstance(section, DictConfig)
        and is_dataclass(OmegaConf.get_type(section))
        and not f"{key}".startswith("hydra")
    ):
        text = APPEND.sub("", text)  # what is appended there is refused
    for pattern, words in WORDED:
        text = re.sub(pattern, words, text)
    return text if key is None or key in text else f"{key}: {text}"


def refuse_older_style(config: DictConfig) -> None:
    """Raise ``UserError`` for a key of YAML tuning configs that was added with ``+``, which nothing would read."""
    for key in OLDER_STYLE:
        if key in config:
            raise UserError(_older_style(key))


def _older_style(key: str) -> str:
    return f"{key}: is of an older kind of config; say {OLDER_STYLE[key]}"


def _deeper(error: ConfigKeyError | ConfigAttributeError) -> list[str]:
    """Where a key that was typed without its section is: ``dataset.path`` for ``path``."""
    root = error.parent_node
    if not isinstance(root, DictConfig) or root._get_parent() is not None:
        return []
    sections = {str(name): root._get_node(name) for name in _known_keys(root)}
    found = [f"{name}.{error.key}" for name, node in sections.items() if error.key in _known_keys(node)]
    return [f"did you mean {' or '.join(found)}?"] if found else []


def _known_keys(node: object) -> list[str]:
    if isinstance(node, DictConfig | Mapping) and not (isinstance(node, DictConfig) and node._is_none()):
        return [str(key) for key in node]
    return []
