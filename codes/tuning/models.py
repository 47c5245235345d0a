"""Models on disk: of the trials that can still be chosen; the others make room as better ones come.

A model is a folder ``models/<number of the trial>``. It goes by being renamed first, so that a folder under its name is
always whole, whenever a coordinator is killed.
"""

import shutil
import uuid
from collections.abc import Sequence
from pathlib import Path

from optuna.trial import FrozenTrial

from codes.tuning.front import accurate_and_fast, best_trials
from codes.tuning.ledger import Ledger, outcome_of
from codes.tuning.objective import Objective
from codes.tuning.plan import Plan

PROMOTED = "promoted"  # user attribute of the study: numbers of trials whose models stay
GONE = ".gone"


def kept_model(folder: Path, number: int) -> Path | None:
    """Folder with the model of the trial ``number`` of the study in ``folder``; None where there is none (any more)."""
    path = folder / "models" / str(number)
    return path if path.is_dir() else None


def worth_keeping(trials: Sequence[FrozenTrial], objective: Objective, best: int) -> set[int]:
    """Numbers of the trials that a choice can fall on.

    The ``best`` ones of a single objective, the whole Pareto front of several, and in either case those that nothing
    beats in accuracy and inference time.
    """
    leading = best_trials(trials, objective)
    chosen = [*(leading[:best] if objective.is_single else leading), *accurate_and_fast(trials, objective)]
    return {trial.number for trial in chosen}


def prune_models(ledger: Ledger, plan: Plan) -> None:
    """Remove models of ended trials that are neither promoted nor ``worth_keeping``, unless ``keep_models`` is null.

    One coordinator at a time decides what goes, on what the database says at that moment; models of trials that run
    are left alone.
    """
    root = plan.folder / "models"
    if plan.config.keep_models is None or not _superfluous(ledger, plan, root):
        return
    with ledger.claiming():
        for path in _superfluous(ledger, plan, root):
            path.rename(root / f".{path.name}.{uuid.uuid4().hex[:8]}{GONE}")
    for path in root.glob(f".*{GONE}"):
        shutil.rmtree(path, ignore_errors=True)  # what another coordinator removes just now, or the next time


def _superfluous(ledger: Ledger, plan: Plan, root: Path) -> list[Path]:
    there = {path.name: path for path in root.iterdir()} if root.is_dir() else {}
    if len(there) <= plan.config.keep_models:
        return []
    trials = ledger.trials()
    wanted = worth_keeping(trials, plan.objective, plan.config.keep_models)
    wanted |= set(ledger.study.user_attrs.get(PROMOTED, ()))
    ended = (trial.number for trial in trials if outcome_of(trial) is not None)
    return [there[str(number)] for number in ended if number not in wanted and str(number) in there]
