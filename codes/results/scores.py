"""Two scores of a trial: on ``test``, by which it was chosen, and on ``val``, which no choice has seen.

Of that on ``val`` the worst quantities too; only those, for a study keeps them and a dataset may have thousands.
"""

from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf
from optuna.trial import FrozenTrial

from codes.errors import UserError
from codes.metrics import ACCURACY
from codes.results.opening import Kept
from codes.results.replay import trial_config
from codes.tuning.ledger import record_of
from codes.tuning.models import kept_model

if TYPE_CHECKING:
    from codes.data import PreparedData
    from codes.training import Predictor

# User attributes of the study, two for each trial that was scored: a finished trial cannot be changed.
VAL, WORST = "val:", "worst_quantities:"
MEAN = "mean_trajectory"  # another one: the same for all trials
FEW = 5  # quantities that are kept
Errors = dict[str, float]


def held_out(kept: Kept, trial: FrozenTrial) -> dict[str, float]:
    """Accuracy of the saved model of ``trial`` on the ``val`` split, by metric; computed once and kept in the study.

    For what was chosen already, never for choosing.

    Raises:
        UserError: its model is not kept, or the data are no longer those that it was trained on.
        Diverged: a prediction is NaN or infinite, or an ODE solver gave up.
    """
    known = kept.study.user_attrs.get(f"{VAL}{trial.number}")
    if known is not None:
        return dict(known)
    folder = kept_model(kept.folder, trial.number)
    if folder is None:
        raise UserError(
            f"trial {trial.number} of {kept.name} has no model in {kept.folder}, so that it cannot be scored on val: "
            f"keep_models says how many are kept; {_again(kept, trial)}"
        )
    found, worst, mean = _score(kept, trial, folder)
    kept.study.set_user_attr(MEAN, mean)
    kept.study.set_user_attr(f"{WORST}{trial.number}", worst)
    kept.study.set_user_attr(f"{VAL}{trial.number}", found)
    return found


def worst_quantities(kept: Kept, trial: FrozenTrial) -> dict[str, float]:
    """``lae99`` on ``val`` of the quantities in which ``trial`` is worst, worst first; empty before ``held_out``."""
    return dict(kept.study.user_attrs.get(f"{WORST}{trial.number}", {}))


def mean_held_out(kept: Kept) -> dict[str, float]:
    """Accuracy of the mean training trajectory on ``val``, by metric; empty before any trial was ``held_out``."""
    return dict(kept.study.user_attrs.get(MEAN, {}))


def scores(kept: Kept, trial: FrozenTrial) -> dict[str, dict[str, float]]:
    """Both scores by metric: ``test``, by which the trial was chosen, and ``val``."""
    val = held_out(kept, trial)
    metrics = record_of(trial).get("metrics", {})
    return {"test": {name: metrics[name] for name in ACCURACY if name in metrics}, "val": val}


def load_model(kept: Kept, trial: FrozenTrial, folder: Path, device: str) -> "Predictor":
    """The saved model of ``trial``; raises ``UserError`` where it is damaged, with the way to have it again."""
    from codes.training import load

    try:
        return load(folder, device)
    except UserError as error:
        raise UserError(f"{error}; or {_again(kept, trial)}") from error


def check_same_data(kept: Kept, trial: FrozenTrial, predictor: "Predictor", data: "PreparedData") -> None:
    """Refuse ``data`` that are scaled in another way than those that the model of ``trial`` was trained on."""
    if predictor.transform.to_dict() != data.transform.to_dict():
        raise UserError(
            f"dataset {kept.config.dataset.name}: its training data are no longer those of trial {trial.number} "
            f"of {kept.name}; restore the file, or a score on val would mean nothing"
        )


def _score(kept: Kept, trial: FrozenTrial, folder: Path) -> tuple[Errors, Errors, Errors]:
    """Accuracy on ``val`` by metric, ``lae99`` of the worst quantities, and accuracy of the mean trajectory."""
    from codes.data import load_data_once
    from codes.training import evaluate, evaluate_by_quantity
    from codes.training.evaluation import ranked
    from codes.training.mean_trajectory import mean_errors

    config: Any = OmegaConf.to_object(trial_config(kept, trial))
    device = "cpu"  # at the end of a study this runs in the coordinator, which is to hold no GPU
    data = load_data_once(OmegaConf.to_yaml(config.dataset), device)
    predictor = load_model(kept, trial, folder, device)
    check_same_data(kept, trial, predictor, data)
    percentile = config.trainer.target_percentile
    found = evaluate(predictor.model, data.val, data.t, data.transform, percentile)
    by_quantity = ranked(evaluate_by_quantity(predictor.model, data.val, data, percentile)["lae99"])
    return found, dict(islice(by_quantity.items(), FEW)), mean_errors(data, data.val, percentile)


def _again(kept: Kept, trial: FrozenTrial) -> str:
    return (
        f"train it again from what python -m codes.replay trial={trial.number} writes, and put config.yaml and "
        f"model.safetensors of that into {kept.folder / 'models' / str(trial.number)}"
    )
