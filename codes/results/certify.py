"""Measure again what studies recommend: inference times side by side, and accuracies from new seeds."""

import logging
import os
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf
from optuna.trial import FrozenTrial

from codes.device import device_model, resolve_device
from codes.errors import StopTraining, UserError
from codes.results.certificate import PREFIX, TIMES, certified_trials
from codes.results.comparable import differences, measured
from codes.results.opening import Kept
from codes.results.replay import trial_config
from codes.results.scores import check_same_data, load_model
from codes.results.side_by_side import SIDE_BY_SIDE
from codes.tuning.ledger import record_of
from codes.tuning.models import kept_model
from codes.tuning.pace import as_time
from codes.tuning.presence import Presence

if TYPE_CHECKING:
    from codes.data import PreparedData

log = logging.getLogger(__name__)

IDLE = 0.5  # processes that want to run, on average over a minute, at most
FEWEST_ROUNDS = 10
Say = Callable[[str], None]
Candidate = tuple[Kept, FrozenTrial]
Training = tuple[Kept, FrozenTrial, int]  # from that seed


def certify(kept: Kept, *, k: int, seeds: Sequence[int], rounds: int, device: str, say: Say) -> list[FrozenTrial]:
    """Train the best trials from each of ``seeds``, and time all of them in turn; everything is kept in the study.

    Of a single objective these are the ``k`` best, of several the Pareto front; and the configuration that the study
    started from. A training that the study already has from that seed is not repeated, so that a certification that was
    killed goes on; times are taken anew. What was trained lies in ``certified/<trial>_<seed>`` in the study's folder.

    Returns:
        The trials.

    Raises:
        UserError: nothing to certify, an argument out of range, or the study is running.
    """
    trials = certified_trials(kept.trials(), kept.objective, k)
    if not trials:
        raise UserError(f"{kept.name} has no complete trial to certify yet")
    seconds, timing = _measure([(kept, trial) for trial in trials], seeds, rounds, device, say)
    timed = {str(trial.number): own for trial, own in zip(trials, seconds, strict=True) if own}
    kept.study.set_user_attr(TIMES, {"seconds": timed, **timing})
    return trials


def certify_side_by_side(
    candidates: Sequence[Candidate], *, seeds: Sequence[int], rounds: int, device: str, say: Say
) -> None:
    """Train what each of several studies recommends from each of ``seeds``, and time all of them in the same rounds.

    Everything else is as of ``certify``; each study keeps its part.

    Raises:
        UserError: what that of ``certify`` does, or the studies differ in what their errors are errors of, or, timed
            on a CPU, in the number of threads.
    """
    name = resolve_device(device)
    if differ := differences({kept.name: measured(kept.config, trial, name) for kept, trial in candidates}):
        raise UserError(f"these studies cannot be compared: {'; '.join(differ)}; certify each, with surrogate=...")
    seconds, timing = _measure(candidates, seeds, rounds, name, say)
    at = datetime.now().isoformat()
    for (kept, trial), own_seconds in zip(candidates, seconds, strict=True):
        part = {"trial": trial.number, "seconds": own_seconds, "at": at, **timing}
        kept.study.set_user_attr(SIDE_BY_SIDE, part)


def _measure(
    candidates: Sequence[Candidate], seeds: Sequence[int], rounds: int, device: str, say: Say
) -> tuple[list[list[float]], dict[str, str]]:
    """Train what is missing; seconds of each candidate in each round (none without a model), and how it was timed."""
    load = os.getloadavg()[0]
    _check(candidates, seeds, rounds)
    wanted = [(kept, trial, seed) for kept, trial in candidates for seed in seeds]
    missing = [one for one in wanted if _key(*one[1:]) not in one[0].study.user_attrs]
    _check_models(candidates, missing, seeds)
    for kept in {kept.name: kept for kept, _ in candidates}.values():
        _check_ended(kept, say)
    name = resolve_device(device)
    _check_data(candidates, name)
    say(_costs(candidates, missing, rounds, name))
    busy = f"other programs run here (load {load:.1f}): times may be too long, and their intervals too wide"
    if load > IDLE:
        say(f"Warning: {busy}")
    for index, (kept, trial, seed) in enumerate(missing, start=1):
        say(f"training {index} of {len(missing)}: trial {trial.number} of {kept.name} from seed {seed}")
        kept.study.set_user_attr(_key(trial, seed), _train(kept, trial, seed, name))
    say(f"timing {len(candidates)} models in {rounds} rounds")
    seconds = _time(candidates, seeds, rounds, name)
    about = {"device": name, "model": device_model(name), "on": f"{datetime.now():%Y-%m-%d %H:%M}"}
    return seconds, {**about, "warning": busy} if load > IDLE else about


def _check(candidates: Sequence[Candidate], seeds: Sequence[int], rounds: int) -> None:
    whole = isinstance(seeds, list) and all(isinstance(seed, int) and 0 <= seed < 2**32 for seed in seeds)
    if not whole or len(set(seeds)) < len(seeds):
        raise UserError(f"seeds must be different integers from 0 to 2^32 - 1, as [1,2,3], but is {seeds}")
    if not isinstance(rounds, int) or rounds < FEWEST_ROUNDS:
        raise UserError(f"rounds must be an integer of at least {FEWEST_ROUNDS}, but is {rounds}")
    for kept, trial in candidates:
        own = record_of(trial).get("seed")
        if own in seeds:
            raise UserError(f"seeds: {_named(kept, trial)} was chosen with {own}, which says nothing new; take another")


def _check_models(candidates: Sequence[Candidate], missing: Sequence[Training], seeds: Sequence[int]) -> None:
    """Refuse trials without a model that could be timed: the times that are kept would be lost for none."""
    trained = {_named(kept, trial) for kept, trial, _ in missing}
    places = [
        f"{_named(kept, trial)} in {kept.folder}"
        for kept, trial in candidates
        if _named(kept, trial) not in trained and not _models(kept, trial, seeds)
    ]
    if places:
        raise UserError(
            f"there is no model of {', of '.join(places)}, to be timed; give seeds=[...] that are new, to train it, or "
            "output_dir if the study was moved"
        )


def _named(kept: Kept, trial: FrozenTrial) -> str:
    return f"trial {trial.number} of {kept.name}"


def _check_ended(kept: Kept, say: Say) -> None:
    presence = Presence(kept.study)
    presence.wait_for_signs(say)
    if others := presence.others():
        who = ", ".join(others)
        raise UserError(
            f"{kept.name} is running ({who}): times need a machine that does nothing else; wait for its end"
        )


def _check_data(candidates: Sequence[Candidate], device: str) -> None:
    for kept, trial in candidates:
        model = kept_model(kept.folder, trial.number)
        if model is not None:
            predictor = load_model(kept, trial, model, device)
            check_same_data(kept, trial, predictor, _data(trial_config(kept, trial), device))


def _costs(candidates: Sequence[Candidate], missing: Sequence[Training], rounds: int, device: str) -> str:
    known = [(record_of(trial).get("projected") or record_of(trial).get("duration") or 0.0) for _, trial, _ in missing]
    names = ", ".join(_named(*candidate) for candidate in candidates)
    left = f"about {as_time(sum(known))} by their first trainings" if missing else "all of them are kept already"
    return f"{names} on {device}: {len(missing)} trainings ({left}), {rounds} rounds of timing"


def _key(trial: FrozenTrial, seed: int) -> str:
    return f"{PREFIX}{trial.number}:{seed}"


def _folder(kept: Kept, trial: FrozenTrial, seed: int) -> Path:
    return kept.folder / "certified" / f"{trial.number}_{seed}"


def _models(kept: Kept, trial: FrozenTrial, seeds: Sequence[int]) -> list[Path]:
    """Folders of the models of ``trial``: its own first, if it is kept, and those that were trained from ``seeds``."""
    from codes.training.artifact import CONFIG

    folders = (kept_model(kept.folder, trial.number), *(_folder(kept, trial, seed) for seed in seeds))
    return [folder for folder in folders if folder is not None and (folder / CONFIG).exists()]


def _data(config: DictConfig, device: str) -> "PreparedData":
    from codes.data import load_data_once

    return load_data_once(OmegaConf.to_yaml(config.dataset), device)


def _train(kept: Kept, trial: FrozenTrial, seed: int, device: str) -> dict[str, Any]:
    """Both scores of a training of ``trial`` from ``seed``, or why there are none."""
    from codes.training import evaluate, save_artifact, train

    config = trial_config(kept, trial)
    config.seed = seed
    typed: Any = OmegaConf.to_object(config)
    data = _data(config, device)
    folder = _folder(kept, trial, seed)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        result = train(typed, data, device, folder=folder)
        val = evaluate(result.model, data.val, data.t, data.transform, typed.trainer.target_percentile)
    except StopTraining as stopped:
        return {"failed": str(stopped)}
    save_artifact(folder, result.model, typed, data)
    return {"test": {name: result.metrics[name] for name in val}, "val": val, "seconds": result.seconds}


def _time(candidates: Sequence[Candidate], seeds: Sequence[int], rounds: int, device: str) -> list[list[float]]:
    """Seconds that each model takes to predict the test split, with its trial's threads; none where there is none."""
    from codes.training import load
    from codes.training.latency import Call, time_in_turn

    calls: list[Call | None] = []
    for kept, trial in candidates:
        there = _models(kept, trial, seeds)
        config = trial_config(kept, trial)
        data = _data(config, device)
        calls.append(Call(load(there[0], device).model, data.test, data.t, config.trainer.threads) if there else None)
    timed = iter(time_in_turn([call for call in calls if call], rounds))
    return [next(timed) if call else [] for call in calls]
