"""A study goes on with the configuration that it was started with, changed as the user decides, or not at all."""

import os
import sys
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import optuna
from omegaconf import DictConfig, OmegaConf
from optuna.trial import TrialState

from codes.errors import UserError
from codes.storage import Database
from codes.tuning.backup import MARK, Backup, back_up, finish_replacing, replace_study
from codes.tuning.changes import (
    STORED,
    Change,
    Class,
    as_text,
    changes,
    diff,
    keep_config,
    kept_config,
    overrides_back,
    with_stored,
)
from codes.tuning.ledger import Ledger
from codes.tuning.migration import migrate
from codes.tuning.plan import Plan
from codes.tuning.presence import Presence
from codes.tuning.screen import emit
from codes.tuning.summary import resume_command

Decision = Literal["reuse", "overwrite"]
IDENTITY = "identity"  # user attribute of a study: what its folder is marked by
WAYS = {
    "reuse": "keep its trials: compatible changes apply, breaking keys stay as they are stored",
    "overwrite": "start anew under its name; the old study and its files stay as a backup",
    "abort": "change nothing",
}


class ConfigChanged(UserError):
    """A study is to be resumed with another configuration."""

    exit_code = 2


@dataclass(frozen=True)
class Comparison:
    """A study, what it was started with, and how ``plan`` differs from that."""

    plan: Plan
    stored: DictConfig
    found: list[Change]

    @property
    def counting(self) -> list[Change]:
        """Differences that trials depend on."""
        return [change for change in self.found if change.kind is not Class.HARMLESS]


def settle_config(
    plan: Plan, database: Database, overrides: Sequence[str], replan: Callable[[DictConfig], Plan]
) -> tuple[Plan, Presence]:
    """The plan to go on with, and this coordinator's presence in the study, which is made if there is none.

    While the user is asked the study is not claimed, so that nobody waits.

    Args:
        overrides: What the user typed, for the way back to a backup.
        replan: Makes a plan of the config in which breaking keys have their stored values.

    Raises:
        ConfigChanged: the study is not to go on; nothing was changed.
    """
    with database.claiming(plan.name):
        comparison = _compare(plan, database)
        if comparison is None:
            _check_folder(plan, database)
            return plan, _enter(plan, database, plan.config)
        if not comparison.counting:
            if comparison.found:
                emit(f"changed, without an effect on trials: {', '.join(map(str, comparison.found))}")
            places = OmegaConf.masked_copy(plan.config, "output_dir")
            data = {"dataset": OmegaConf.masked_copy(plan.config.dataset, "path")}  # the same file, perhaps moved
            kept = OmegaConf.merge(comparison.stored, places, data)
            assert isinstance(kept, DictConfig)
            kept.trials = plan.config.trials  # what its progress is told against
            return plan, _enter(plan, database, kept)
    decision = _decide(comparison)
    _close_dead(_decided(comparison, database), plan, database)
    settled = _settled(comparison, replan) if decision == "reuse" else plan
    with database.claiming(plan.name):
        finish_replacing(plan.name, database.storage, plan.folder)
        _decided(comparison, database)
        if decision == "overwrite":
            _overwrite(comparison, database, overrides)
        else:
            _reuse(comparison, settled, database, overrides)
        return settled, _enter(settled, database, settled.config)


def _compare(plan: Plan, database: Database) -> Comparison | None:
    """How ``plan`` differs from what the study was started with; None as long as that may change freely.

    It may until the first trial. What waits in such a study was proposed for the config before: it goes.
    """
    finish_replacing(plan.name, database.storage, plan.folder)
    study = _load(plan, database)
    stored = kept_config(study, plan.folder)
    trials = study.get_trials(deepcopy=False)
    if all(trial.state is TrialState.WAITING for trial in trials) and not Presence(study).others():
        if stored is not None and changes(stored, plan.config):
            for folder in (plan.folder, Path(stored.output_dir)):
                (folder / f"{MARK}{study.user_attrs.get(IDENTITY)}").unlink(missing_ok=True)
            optuna.delete_study(study_name=plan.name, storage=database.storage)
        return None
    if stored is None:
        raise ConfigChanged(
            f"study {plan.name} keeps no configuration, and {plan.folder / STORED} is missing, so that it cannot be "
            "resumed safely; restore the file, or start another study with tuning_id=..."
        )
    return Comparison(plan, stored, changes(stored, plan.config))


def _check_folder(plan: Plan, database: Database) -> None:
    """Refuse to write a study's first trial over the models of another study of its name."""
    models = plan.folder / "models"
    if any(models.glob("*")):
        raise _taken(plan, database, models)


def _take_folder(plan: Plan, study: optuna.Study, database: Database) -> None:
    """Mark the folder as that of ``study``; refuse one that another study has marked, perhaps just now."""
    if plan.config.storage.backend == "memory":  # whose study ends with its process
        return
    own = study.user_attrs.get(IDENTITY) or uuid.uuid4().hex
    study.set_user_attr(IDENTITY, own)
    plan.folder.mkdir(parents=True, exist_ok=True)
    mark = plan.folder / f"{MARK}{own}"
    is_new = not mark.exists()
    mark.touch()
    others = [path for path in plan.folder.glob(f"{MARK}*") if path != mark]
    if others:
        if is_new:
            mark.unlink(missing_ok=True)
        raise _taken(plan, database, others[0])


def _taken(plan: Plan, database: Database, sign: Path) -> UserError:
    return UserError(
        f"study {plan.name} in {database.address} cannot write into {plan.folder}, which another study has taken, "
        f"of another storage or deleted since. Name its storage, take another tuning_id=..., or move {sign} away"
    )


def _enter(plan: Plan, database: Database, kept: DictConfig) -> Presence:
    study = _load(plan, database)
    _take_folder(plan, study, database)
    keep_config(study, kept, plan.folder)
    presence = Presence(study, of_one_host=database.of_one_host)
    presence.beat()
    return presence


def _load(plan: Plan, database: Database) -> optuna.Study:
    try:
        return optuna.load_study(study_name=plan.name, storage=database.storage, pruner=plan.pruner)
    except KeyError:
        return optuna.create_study(
            study_name=plan.name,
            storage=database.storage,
            directions=plan.objective.directions,
            pruner=plan.pruner,
            load_if_exists=True,  # made by an attempt whose answer was lost
        )


def _decided(comparison: Comparison, database: Database) -> optuna.Study:
    """The study that the user has decided about, which is still what it was then."""
    plan = comparison.plan
    try:
        study = optuna.load_study(study_name=plan.name, storage=database.storage, pruner=plan.pruner)
        stored = kept_config(study, plan.folder)
    except KeyError:
        stored = None
    if stored is None or as_text(stored) != as_text(comparison.stored):
        raise ConfigChanged(f"study {plan.name} was changed by another process meanwhile; start again")
    return study


def _close_dead(study: optuna.Study, plan: Plan, database: Database) -> None:
    """Close what dead coordinators left running, once it is known which are dead."""
    presence = Presence(study)
    presence.wait_for_signs(emit)
    Ledger(study, plan.config.trials, presence, partial(database.claiming, plan.name)).close_dead()


def _decide(comparison: Comparison) -> Decision:
    """What the user wants, as configured or as answered; raises ``ConfigChanged`` when that is to abort."""
    name, policy = comparison.plan.name, comparison.plan.config.on_config_change
    text = f"study {name} was started with another configuration\n\n{diff(comparison.found)}\n"
    if policy == "ask" and _at_terminal():
        emit(text)
        policy, text = _ask(), f"study {name} is left as it was"
    elif policy in ("reuse", "overwrite"):
        emit(text)
    if policy == "reuse" or policy == "overwrite":
        return policy
    raise ConfigChanged(
        f"{text}\nNothing was changed. Restore the stored values, or go on with\n"
        f"  on_config_change=reuse      {WAYS['reuse']}\n"
        f"  on_config_change=overwrite  {WAYS['overwrite']}\n"
        "  tuning_id=...               another study beside it"
    )


def _at_terminal() -> bool:
    """Whether somebody can answer: a terminal whose foreground this process is, for reading stops any other."""
    try:
        is_terminal = sys.stdin.isatty() and sys.stderr.isatty()
        return is_terminal and os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
    except (AttributeError, OSError, ValueError):  # no or a closed standard input
        return False


def _ask() -> str:
    """One of ``WAYS``; nothing, the end of the input and Ctrl-C mean abort."""
    sys.stderr.write("".join(f"  {way:11s}{meaning}\n" for way, meaning in WAYS.items()))
    try:
        while True:
            sys.stderr.write("reuse, overwrite or abort? [abort] ")
            sys.stderr.flush()
            answer = sys.stdin.readline().strip().lower() or "abort"
            for way in WAYS:
                if way.startswith(answer):
                    return way
            sys.stderr.write(f"'{answer}' is none of {', '.join(WAYS)}; their first letters do\n")
    except KeyboardInterrupt:
        return "abort"


def _settled(comparison: Comparison, replan: Callable[[DictConfig], Plan]) -> Plan:
    """A plan in which every breaking key is as it was stored; raises ``ConfigChanged`` where it cannot be."""
    settled = replan(with_stored(comparison.plan.config, comparison.found))
    left = [change for change in changes(comparison.stored, settled.config) if change.kind is Class.BREAKING]
    if left:
        raise ConfigChanged(
            f"study {settled.name} cannot be reused, for what it was started with is no longer to be had: "
            f"{', '.join(map(str, left))}; nothing was changed"
        )
    return settled


def _overwrite(comparison: Comparison, database: Database, overrides: Sequence[str]) -> None:
    plan = comparison.plan
    study = _alone(plan, database)
    backup = back_up(study, comparison.stored, plan.config, database)
    replace_study(study, plan.folder, as_text(plan.config), (), plan.objective.directions, afresh=True)
    emit(_way_back(comparison, backup, overrides))


def _reuse(comparison: Comparison, settled: Plan, database: Database, overrides: Sequence[str]) -> None:
    stays = [change for change in comparison.found if change.kind is Class.BREAKING]
    for change in stays:
        emit(f"{change.key} stays {change.row[1]}")
    if not any(change.affects_trials for change in comparison.found):
        return
    study = _alone(settled, database)
    migration = migrate(study.get_trials(deepcopy=False), comparison.stored, settled.config, settled.space)
    if migration.changed:
        emit(f"writing {len(migration.trials)} trials anew")
        backup = back_up(study, comparison.stored, settled.config, database)
        text = as_text(settled.config)
        replace_study(study, settled.folder, text, migration.trials, study.directions, afresh=False)
        emit("\n".join(migration.report()))
        emit(_way_back(comparison, backup, overrides))


def _alone(plan: Plan, database: Database) -> optuna.Study:
    """The study, which nobody else runs."""
    study = _load(plan, database)
    others = Presence(study).others()
    running = study.get_trials(deepcopy=False, states=[TrialState.RUNNING])
    if others or running:
        who = ", ".join(others) or f"trial {running[0].number} runs"
        raise ConfigChanged(f"study {plan.name} cannot be changed while it is run by others ({who}); stop them first")
    return study


def _way_back(comparison: Comparison, backup: Backup, overrides: Sequence[str]) -> str:
    kept = [text for text in overrides if text.partition("=")[0] not in ("tuning_id", "on_config_change")]
    back = [*kept, *overrides_back(comparison.found, comparison.stored), *backup.overrides]
    return (
        f"the study as it was is kept as {backup.name}, in {backup.folder}; go on with it by\n{resume_command(back)}\n"
    )
