"""Config groups that need a choice: what is told to who takes it away, for Hydra has a traceback, or says nothing."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, QuotedString
from hydra.errors import HydraException

from codes.errors import UserError, did_you_mean

CONF = Path(__file__).parents[1] / "conf"
INSTEAD = {  # what is typed by who wants none
    "dataset": "choose one, a file of your own by dataset=hdf5 dataset.path=...",
    "surrogate": "choose one",
    "trainer": "leave it out for that of the surrogate",
    "objective": "leave it out for objective=accuracy",
    "optimal": "type optimal=off for the defaults without tuned hyperparameters",
    "search_space": "leave it out for that of the surrogate; ~search_space.<name> takes a parameter out",
    "sampler": "type sampler=random for one that learns nothing, or leave it out for that of the objective",
    "pruner": "type pruner=none, or leave it out for that of the objective",
    "storage": "type storage=memory to keep nothing, or leave it out for storage=sqlite",
}
ONLY_TUNE = ("search_space", "sampler", "pruner", "storage")
OPTIONAL = ("storage",)  # may be taken out with ~


def refuse_none(arguments: Sequence[str]) -> None:
    """Raise ``UserError`` for a group that is taken out or no name, with what to type instead and the choices."""
    is_train = Path(sys.argv[0]).name == "train.py"
    flags, _ = get_args_parser().parse_known_args(arguments)
    folders = [CONF, *([Path(flags.config_dir)] if flags.config_dir else [])]
    for argument in arguments:
        key, _, value = argument.partition("=")
        group = key.lstrip("~+").partition("@")[0]
        choices = sorted({path.stem for folder in folders for path in (folder / group).glob("*.yaml")})
        if not choices and not group.startswith("hydra/"):
            continue  # no group
        if key.startswith("~"):
            if group not in INSTEAD or group in OPTIONAL:
                continue
            problem = "cannot be taken out"
        elif _has_names(argument):
            if group == "optimal" and "hydra.searchpath" not in " ".join(arguments):
                _refuse_missing(argument, [folder / group for folder in folders])
            continue
        else:
            problem = f"cannot be {value}"
        if is_train and group in ONLY_TUNE:
            raise UserError(f"{group}: {problem}; leave it out, train.py has no {group}")
        instead = INSTEAD.get(group, "leave it out")
        raise UserError(f"{group}: {problem}; {instead}" + (f" (choices: {', '.join(choices)})" if choices else ""))


def _refuse_missing(argument: str, folders: Sequence[Path]) -> None:
    """Raise ``UserError`` for a choice that is not there, of a group that Hydra then leaves out without a word."""
    for name in (getattr(value, "text", value) for value in _given(argument)):
        if isinstance(name, str) and "$" not in name and not any((path / f"{name}.yaml").exists() for path in folders):
            files = [file.relative_to(path) for path in folders for file in path.rglob("*.yaml")]
            hint = did_you_mean(name, [str(file.with_suffix("")) for file in files])
            raise UserError(
                f"optimal: there is no {name}; {hint}choose off, or <dataset>/<Surrogate> of a file below "
                f"{' or '.join(map(str, folders))}"
            )


def _has_names(argument: str) -> bool:
    """Whether a group is given choices by name, a mapping for its config, or what Hydra cannot read and says so."""
    return all(isinstance(name, str | QuotedString | dict) for name in _given(argument))


def _given(argument: str) -> list[Any]:
    """The choices of an override, also those of a sweep and of lists; none where Hydra cannot read it."""
    try:
        value = OverridesParser.create().parse_override(argument).value()
    except HydraException:
        return []
    given = value.list if isinstance(value, ChoiceSweep) else [value]
    return [name for entry in given for name in (entry if isinstance(entry, list) and entry else [entry])]
