"""What a user reads before and after a study: what is tuned, what came out, where it lies, what to type next."""

import csv
import io
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from optuna.pruners import HyperbandPruner, NopPruner
from optuna.trial import FrozenTrial, TrialState

from codes.bounds import key_of
from codes.files import write_atomically
from codes.metrics import METRICS
from codes.tuning.front import best_trials
from codes.tuning.ledger import Ledger, counts, outcome_of, record_of
from codes.tuning.objective import Objective, first_looks
from codes.tuning.plan import Plan
from codes.tuning.space import as_override
from codes.tuning.tables import table

WIDTH = 96  # of a suggested command
SHOWN, SHOWN_FRONT = 5, 20  # best trials of a single objective, trials of a Pareto front
# First names of overrides that train.py does not know.
ONLY_TUNE = {"tuning_id", "output_dir", "trials", "devices", "max_invalid", "search_space", "storage", "sampler"}
ONLY_TUNE |= {"pruner", "experiment", "hydra", "study_name", "fine", "known", "explore", "time_pruning", "loss_cap"}


def opening(plan: Plan, threads: int) -> str:
    """What is tuned, in which ranges, by what, on which slots, and where everything goes."""
    config, objective = plan.config, plan.objective
    goals = [f"{direction} {name}" for name, direction in zip(objective.metrics, objective.directions, strict=True)]
    unit = f" ({METRICS[objective.metrics[0]].unit})" if objective.is_single else ""
    facts = {
        "study": f"{plan.name}, {config.surrogate.name} on {config.dataset.name}, {config.trials} valid trials",
        "objective": ", ".join(goals) + unit,
        "sampler": str(config.sampler["_target_"]).rpartition(".")[2],
        "pruner": _describe_pruner(plan),
        "slots": f"{', '.join(plan.devices)} ({threads} CPU thread{'s' if threads > 1 else ''} each)",
        "storage": str(config.storage.path),
        "outputs": str(plan.folder),
    }
    rows = [(tuned.name, tuned.range, "" if tuned.when is None else str(tuned.when)) for tuned in plan.space]
    return f"{_aligned(facts)}\n\n{table(('tuned', 'range', 'when'), rows)}\n"


def closing(ledger: Ledger, plan: Plan) -> str:
    """The best trials or the Pareto front, how all trials ended, and where everything lies."""
    ended = counts(ledger.trials())
    facts = {"trials": ", ".join(f"{number} {outcome.value}" for outcome, number in ended.items())}
    facts["table"] = str(plan.folder / "trials.csv")
    best = best_trials(ledger.trials(), plan.objective)
    if not best:
        return f"\n{_aligned(facts)}"
    facts["models"] = str(plan.folder / "models" / "<trial>")
    title = "best trials" if plan.objective.is_single else "Pareto front"
    parameters = [
        (name, f"{value:.6g}" if isinstance(value, float) else as_override(value))
        for name, value in best[0].params.items()
    ]
    hyperparameters = table((f"trial {best[0].number}", ""), parameters)
    return f"\n{title}\n{_results(best, plan.objective)}\n\n{hyperparameters}\n\n{_aligned(facts)}"


def next_commands(ledger: Ledger, plan: Plan, overrides: Sequence[str]) -> str:
    """What to type next, ready to be copied."""
    lines = ["\nmore trials of this study", resume_command(overrides, 2 * ledger.valid())]
    best = best_trials(ledger.trials(), plan.objective)
    if best:
        lines += ["train with the best hyperparameters, score on the held-out split"]
        lines += [train_command(plan, best[0], overrides)]
        if plan.config.fine is None:
            lines += [f"refine around {'the best trial' if plan.objective.is_single else 'the knee of the front'}"]
            lines += [fine_command(plan, overrides)]
    return "\n".join(lines)


def train_command(plan: Plan, best: FrozenTrial, overrides: Sequence[str]) -> str:
    """Train again with the hyperparameters of ``best``."""
    config = plan.config
    keys = {parameter.name: parameter.key for parameter in plan.space}
    groups = {"dataset": config.dataset.name, "surrogate": config.surrogate.name}
    values = {"trainer.epochs": config.trainer.epochs, "trainer.batch_size": config.trainer.batch_size}
    if config.known is not None:  # a fine study: what it does not tune is as its centre has it
        values |= {key_of(name): value for name, value in config.known.parameters.items()}
    values |= {keys[name]: value for name, value in best.params.items() if name in keys}
    settled = {**groups, **values}
    kept = [text for text in overrides if _key(text) not in settled and _key(text).split(".")[0] not in ONLY_TUNE]
    return _command("train.py", [*_assignments(groups), *kept, *_assignments(values)])


def fine_command(plan: Plan, overrides: Sequence[str]) -> str:
    """The fine stage around the best of this study."""
    own = {"search_space", "study_name", "output_dir", "trials"}
    kept = [text for text in overrides if _key(text).split(".")[0] not in own]
    other = [] if plan.name == f"{plan.config.tuning_id}_{plan.config.surrogate.name}" else [f"fine.study={plan.name}"]
    return _command("tune.py", [*kept, "search_space=fine", *other])


def resume_command(overrides: Sequence[str], trials: int | None = None) -> str:
    """The same study again, with another budget if one is given."""
    if trials is not None:
        overrides = [*(text for text in overrides if _key(text) != "trials"), f"trials={trials}"]
    return _command("tune.py", overrides)


def write_trials(path: Path, trials: Sequence[FrozenTrial], objective: Objective) -> None:
    """One row per trial: number, outcome, objectives, hyperparameters, duration, device, seed, reason."""
    names = sorted({name for trial in trials for name in trial.params})
    kept = ("duration", "device", "seed", "reason")
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["number", "outcome", *objective.metrics, *names, *kept])
    for trial in trials:
        outcome, record = outcome_of(trial), record_of(trial)
        values = trial.values if trial.state is TrialState.COMPLETE else [""] * len(objective.metrics)
        parameters = [trial.params.get(name, "") for name in names]
        ended = outcome.value if outcome else trial.state.name.lower()
        writer.writerow([trial.number, ended, *values, *parameters, *(record.get(name, "") for name in kept)])
    write_atomically(path, text.getvalue())


def _describe_pruner(plan: Plan) -> str:
    section = plan.config.pruner
    name = type(plan.pruner).__name__
    if isinstance(plan.pruner, NopPruner):
        return "none"
    if plan.config.trainer.evaluate_every >= plan.objective.epochs:
        return f"none: nothing is evaluated before the last of {plan.objective.epochs} epochs (trainer.evaluate_every)"
    if isinstance(plan.pruner, HyperbandPruner):
        looks = ", ".join(str(epoch) for epoch in first_looks(section))
        return f"{name}, brackets that first prune at epoch {looks} of {plan.objective.epochs}"
    return name


def _results(trials: Sequence[FrozenTrial], objective: Objective) -> str:
    shown = trials[: SHOWN if objective.is_single else SHOWN_FRONT]
    rows = [
        (str(trial.number), *(f"{value:.4g}" for value in trial.values), f"{record_of(trial).get('duration', 0):.1f} s")
        for trial in shown
    ]
    return table(("trial", *objective.metrics, "duration"), rows)


def _aligned(facts: Mapping[str, str]) -> str:
    return "\n".join(f"{name:11s}{value}" for name, value in facts.items())


def _assignments(values: Mapping[str, Any]) -> list[str]:
    return [f"{key}={as_override(value)}" for key, value in values.items()]


def _command(script: str, overrides: Sequence[str]) -> str:
    """A command line, broken where it gets too wide for a terminal."""
    lines = [f"  python {script}"]
    for word in map(shlex.quote, overrides):
        if len(lines[-1]) + len(word) > WIDTH:
            lines[-1] += " \\"
            lines.append("     ")
        lines[-1] += f" {word}"
    return "\n".join(lines)


def _key(override: str) -> str:
    return override.lstrip("+~").partition("=")[0].partition("@")[0]
