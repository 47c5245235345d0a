"""The fine stage: a study of its own, in narrow ranges around the best configuration that is known."""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
import yaml
from omegaconf import DictConfig, OmegaConf
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from codes import storage
from codes.bounds import Refined, key_of, leaves, refine
from codes.errors import UserError
from codes.files import write_atomically
from codes.locks import lock_on
from codes.metrics import with_unit
from codes.tuning.backup import check_whole
from codes.tuning.changes import KEPT, kept_config
from codes.tuning.front import best_trials, recommended
from codes.tuning.ledger import outcome_of, record_of
from codes.tuning.objective import Objective
from codes.tuning.outcomes import Outcome
from codes.tuning.plan import plan_study
from codes.tuning.screen import emit
from codes.tuning.space import SECTION, as_override


@contextmanager
def narrow(
    config: DictConfig, prepare: Callable[[DictConfig], object], overrides: Sequence[str] = ()
) -> Iterator[None]:
    """Settle the centre and the ranges of a fine study in ``config``, composed with ``search_space=fine``.

    The centre is the best trial of the study ``config.fine.study``, with several objectives the knee of its Pareto
    front; its values, also those that are not refined, and whatever else its study had set of the surrogate are written
    into ``config``. Without such a trial the centre is the composed configuration. A fine study that has trials keeps
    the centre that it was started with. A private server runs until the end of the ``with``, for the study itself.

    Args:
        prepare: Makes the data and writes into the config what only the data says: conditions may look at it.
        overrides: What the user typed. What deletes a part of the computed ranges leaves no trace in the config.

    Raises:
        UserError: a range was typed, nothing can be refined, ``fine.parameters`` names what cannot, or that study had
            another objective.
    """
    typed = [text for text in overrides if text.lstrip("+~").startswith(f"{SECTION}.")]
    if typed or not OmegaConf.is_interpolation(config, SECTION):
        raise UserError(
            f"{SECTION}=fine draws its ranges itself; remove {typed[0] if typed else f'+{SECTION}'}, "
            "see fine.factor and fine.parameters, or ~explore.<name> for what is not to be refined"
        )
    objective = _checked_objective(config)
    prepare(config)
    settings = storage.settings(config)
    with storage.serving(settings):
        with storage.opened(settings) as database:
            best = _best(config.fine.study, database.storage, objective)
            surrogate = _surrogate(config, database.storage)
            kept = _kept(config, database.storage)
        if kept is not None:
            OmegaConf.update(config, "known", _plain(kept.known), force_add=True)
            config.explore = _plain(kept.explore)
        elif best is not None:
            _centre(config, best, surrogate, objective)
        for name, value in config.known.parameters.items():
            OmegaConf.update(config, key_of(name), value)
        refined = _refined(config)
        config.search_space = OmegaConf.to_container(config.search_space, resolve=True)
        emit(_describe(config, refined, best))
        if kept is None or kept[SECTION] == config[SECTION]:  # otherwise it is not settled yet that they change
            sum_up(config)
        yield


def sum_up(config: DictConfig) -> None:
    """Keep in ``config.fine.summary`` source, centre, ranges and budget of the fine study that ``config`` describes."""
    known = config.known
    source: Any = "composed configuration: defaults, optimal file if there is one, command line"
    if known.study is not None:
        source = {"study": known.study, "trial": known.trial, "values": _plain(known["values"])}
    ranges = {name: [entry["low"], entry["high"]] for name, entry in leaves(_plain(config[SECTION]))}
    entry = {
        "study": config.study_name,
        "source": source,
        "known": {**_plain(known.parameters), **{name: OmegaConf.select(config, key_of(name)) for name in ranges}},
        "ranges": ranges,
        "factor": config.fine.factor,
        "trials": config.trials,
        "outputs": config.output_dir,
    }
    keep_summary(Path(config.fine.summary), config.surrogate.name, entry)


def keep_summary(path: Path, surrogate: str, entry: Mapping[str, Any]) -> None:
    """Set the entry of ``surrogate`` in the file at ``path``; all others stay, also when several processes do so."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = lock_on(path.with_name(f".{path.name}.lock"))
    except OSError as error:
        raise UserError(f"fine.summary {path} cannot be written ({error.strerror}); choose another place") from error
    with lock:
        try:
            entries = yaml.safe_load(path.read_text()) if path.exists() else {}
        except yaml.YAMLError as error:
            raise UserError(f"fine.summary {path} is not valid YAML ({error}); mend it or move it away") from error
        if not isinstance(entries, dict):
            raise UserError(f"fine.summary {path} must map surrogates to their stages; mend it or move it away")
        write_atomically(path, yaml.safe_dump({**entries, surrogate: dict(entry)}, sort_keys=False))


def _checked_objective(config: DictConfig) -> Objective:
    """The objective of ``config``, everything in which is checked but the ranges: the explored ones stand in."""
    explored = copy.deepcopy(config)
    explored.search_space = explored.explore
    return plan_study(explored).objective


def _study(name: str, backend: BaseStorage) -> optuna.Study | None:
    try:
        return optuna.load_study(study_name=name, storage=backend)
    except KeyError:
        check_whole(name, backend)
        return None


def _best(name: str, backend: BaseStorage, objective: Objective) -> FrozenTrial | None:
    """Best trial of the study ``name``, or the knee of its Pareto front, if there is one."""
    study = _study(name, backend)
    if study is None:
        return None
    trials = [trial for trial in study.get_trials(deepcopy=False) if outcome_of(trial) is Outcome.COMPLETE]
    if not all(_was_told(trial, objective) for trial in trials):
        raise UserError(
            f"fine.study: {name} was optimised for something else than objective.metrics={list(objective.metrics)}; "
            "give the objective of that study, or another fine.study"
        )
    best = best_trials(trials, objective)
    return recommended(best, objective) if best else None


def _was_told(trial: FrozenTrial, objective: Objective) -> bool:
    """Whether the values of a complete ``trial`` are those of ``objective``, as far as its metrics are kept."""
    metrics = record_of(trial).get("metrics")
    if not metrics:  # told by another program
        return len(trial.values) == len(objective.metrics)
    return trial.values == [metrics.get(name) for name in objective.metrics]


def _kept(config: DictConfig, backend: BaseStorage) -> DictConfig | None:
    """What the fine study of ``config`` was started with; None while none of its trials has been started."""
    study = _study(config.study_name, backend)
    if study is None or all(trial.state is TrialState.WAITING for trial in study.get_trials(deepcopy=False)):
        return None
    return kept_config(study, Path(config.output_dir))


def _surrogate(config: DictConfig, backend: BaseStorage) -> Mapping[str, Any]:
    """Config of the surrogate of the study ``config.fine.study``, as far as it is kept; refuses another surrogate's."""
    study = _study(config.fine.study, backend)
    if study is None or KEPT not in study.user_attrs:
        return {}
    kept: Any = OmegaConf.to_container(OmegaConf.create(study.user_attrs[KEPT]).surrogate, resolve=True)
    if kept["name"] != config.surrogate.name:
        raise UserError(f"fine.study: {study.study_name} tunes {kept['name']}, but surrogate={config.surrogate.name}")
    return {str(name): value for name, value in kept.items()}


def _centre(config: DictConfig, best: FrozenTrial, surrogate: Mapping[str, Any], objective: Objective) -> None:
    """Make ``best`` the centre, and the numbers that its study tuned those to refine, under their conditions."""
    changed = {name: value for name, value in surrogate.items() if config.surrogate.get(name) != value}
    config.known.study, config.known.trial = config.fine.study, best.number
    config.known.parameters = {**changed, **best.params}
    config.known["values"] = dict(zip(objective.metrics, best.values, strict=True))
    conditions = {name: entry.get("when") for name, entry in leaves(_plain(config.explore))}
    config.explore = {}
    for name, tuned in best.distributions.items():
        if isinstance(tuned, FloatDistribution | IntDistribution):
            entry = {"low": tuned.low, "high": tuned.high, "when": conditions.get(name)}
            OmegaConf.update(config.explore, name, entry, force_add=True)


def _refined(config: DictConfig) -> Refined:
    known: Any = OmegaConf.to_container(config.known, resolve=True)
    explore: Any = OmegaConf.to_container(config.explore, resolve=True)
    names = config.fine.parameters
    return refine(known, explore, config.fine.factor, None if names is None else list(names))


def _describe(config: DictConfig, refined: Refined, best: FrozenTrial | None) -> str:
    """What is refined around which centre, for the screen."""
    known, study = config.known, config.fine.study
    values = ", ".join(f"{name} {with_unit(name, value)}" for name, value in (known["values"] or {}).items())
    composed = f"the composed configuration: {study} had no complete trial"
    lines = [f"fine stage around {f'trial {known.trial} of {known.study}, {values}' if known.study else composed}"]
    fixed = [name for name in known.parameters if name not in refined.ranges]
    if fixed:
        lines += ["fixed: " + ", ".join(f"{name}={as_override(known.parameters[name])}" for name in fixed)]
    lines += [f"not refined: {name}, {reason}" for name, reason in refined.left_out.items()]
    if best is not None and (known.study, known.trial) != (study, best.number):
        lines += [f"by now the best of {study} is trial {best.number}; this study keeps the centre it was started with"]
        lines += ["fine.name=<another name> starts a new one around that trial"]
    return "\n".join(lines)


def _plain(node: Any) -> Any:
    return OmegaConf.to_container(node, resolve=False)
