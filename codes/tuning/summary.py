"""What a user reads before and after a study: what is tuned, what came out, where it lies, what to type next."""

import csv
import io
import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from optuna.pruners import HyperbandPruner, NopPruner
from optuna.trial import FrozenTrial

from codes import arguments
from codes.device import usable_cores
from codes.files import write_atomically
from codes.metrics import METRICS, unit_of, with_unit
from codes.tuning.changes import quoted
from codes.tuning.front import best_trials, metric_of, recommended
from codes.tuning.ledger import Ledger, counts, outcome_of, record_of
from codes.tuning.models import kept_model
from codes.tuning.objective import Objective, first_looks
from codes.tuning.origins import origin_of
from codes.tuning.outcomes import Outcome
from codes.tuning.pace import as_time
from codes.tuning.plan import Plan
from codes.tuning.pruners import ParetoHalving
from codes.tuning.space import as_override
from codes.tuning.tables import table

SHOWN, SHOWN_FRONT = 5, 20  # best trials of a single objective, trials of a Pareto front
LEAST_TIMEOUT = 60  # seconds, in which a worker certainly starts
KEPT: tuple[str, ...] = ("duration", "device", "seed", "reason", "epoch", "projected", "peak_memory", "together")
KEPT += ("hardware", "coordinator")


def opening(plan: Plan, threads: int, address: str, origins: Mapping[str, str]) -> str:
    """What is tuned, in which ranges, by what, on which slots, and where everything goes.

    ``address`` is that of the storage; ``origins`` says of each parameter where its range comes from.
    """
    config, objective = plan.config, plan.objective
    goals = [f"{direction} {name}" for name, direction in zip(objective.metrics, objective.directions, strict=True)]
    unit = unit_of(objective.metrics[0], config.dataset.log10_transform)
    facts = {
        "study": f"{plan.name}, {config.surrogate.name} on {config.dataset.name}, {config.trials} valid trials",
        "objective": ", ".join(goals) + (f" ({unit})" if objective.is_single and unit else ""),
        **({"to beat": f"{plan.to_beat} on test, of the mean training trajectory"} if plan.to_beat else {}),
        "sampler": str(config.sampler["_target_"]).rpartition(".")[2],
        "pruner": _describe_pruner(plan),
        "time pruning": "on" if config.time_pruning else "off",
        "warm start": "on" if config.warm_start else "off",
        "slots": _slots(plan.devices, threads),
        "population": str(plan.population),
        "storage": address,
        "outputs": str(plan.folder),
        "resume": f"on_config_change={config.on_config_change}",
    }
    rows = [(tuned.name, tuned.range, origin_of(tuned.name, origins), readable(tuned.when)) for tuned in plan.space]
    return f"{_aligned(facts)}\n\n{table(('tuned', 'range', 'from', 'when'), rows)}\n"


def _slots(devices: Sequence[str], threads: int) -> str:
    """Device of each slot, and how to use the cores that would be idle."""
    text = f"{', '.join(devices)} ({threads} CPU thread{'s' if threads > 1 else ''} each)"
    used, cores = threads * len(devices), usable_cores()
    is_idle = set(devices) == {"cpu"} and used < cores
    return f"{text}; devices=[cores] uses all {cores} cores, with a trial on each" if is_idle else text


def readable(condition: str | bool | None) -> str:
    """``${eq:${surrogate.optimizer},sgd}`` as ``eq(optimizer,sgd)``; a bare name is an attribute of the surrogate."""
    if condition is None:
        return ""
    text, before = as_override(condition), ""
    while text != before:
        before = text
        text = re.sub(r"\$\{(?:surrogate\.)?([\w.]+)\}", r"\1", text)
        text = re.sub(r"\$\{(\w+):([^${}]*)\}", r"\1(\2)", text)
    return text


def closing(ledger: Ledger, plan: Plan) -> str:
    """How all trials ended and the time that went into them, the best ones or the Pareto front, where everything lies.

    Only trials with the outcome ``complete`` are results.
    """
    trials = ledger.trials()
    facts = {"table": str(plan.folder / "trials.csv")}
    best = best_trials(trials, plan.objective)
    parts = [_spent(trials)]
    if best:
        chosen = recommended(best, plan.objective)
        parameters = [
            (name, f"{value:.6g}" if isinstance(value, float) else as_override(value))
            for name, value in chosen.params.items()
        ]
        parts += [_results(best, chosen, plan.objective), table((f"trial {chosen.number}", ""), parameters)]
        number = plan.config.keep_models
        which = "" if number is None else f" of the {number} best" if plan.objective.is_single else " of the front"
        facts["models"] = str(plan.folder / "models" / "<trial>") + which
    elif ended := counts(trials):
        parts.append(_without_result(trials, max(ended, key=lambda outcome: ended[outcome])))
    return "\n" + "\n\n".join([*parts, _aligned(facts)])


def _without_result(trials: Sequence[FrozenTrial], outcome: Outcome) -> str:
    """How most trials of a study without a complete one have ended, and why the first of these did."""
    alike = [trial for trial in trials if outcome_of(trial) is outcome]
    which = f"{len(alike)} of {len(trials)} {outcome.value}"
    reason = record_of(alike[0]).get("reason") or "without a reason"
    return f"no trial is complete; {which}, the first of them trial {alike[0].number} ({reason})"


def study_row(ledger: Ledger, plan: Plan) -> dict[str, str]:
    """The study in the table of all studies of a multirun, with the best trial or the knee of its front, by column."""
    trials = ledger.trials()
    best = best_trials(trials, plan.objective)
    values = ["none"]
    if best:
        pairs = zip(plan.objective.metrics, recommended(best, plan.objective).values, strict=True)
        values = [f"{name} {with_unit(name, value)}" for name, value in pairs]
        values += [] if plan.objective.is_single else [f"knee of {len(best)}"]
    return {
        "study": plan.name,
        "valid": f"{ledger.valid()}/{ledger.target}",
        "best on test": ", ".join(values),
        "trials": ", ".join(f"{number} {outcome.value}" for outcome, number in counts(trials).items()),
    }


def next_commands(ledger: Ledger, plan: Plan, overrides: Sequence[str]) -> str:
    """What to type next, ready to be copied."""
    trials, timeout = ledger.trials(), plan.config.timeout
    best = best_trials(trials, plan.objective)
    if ledger.is_full() and not best:
        lines = ["\nmore trials alone are not likely to help; change the configuration or the search space"]
        lines += ["(on_config_change=overwrite starts the study anew with it)"]
    elif ledger.is_full():
        lines = ["\nmore trials of this study", resume_command(overrides, trials=2 * ledger.valid())]
    elif timeout is not None and all(record_of(trial).get("coordinator") != ledger.presence.name for trial in trials):
        lines = [f"\nno trial could start within timeout={timeout:g}; give it more"]
        lines += [resume_command(overrides, timeout=max(LEAST_TIMEOUT, 2 * timeout))]
    else:
        lines = ["\nthe trials that are left", resume_command(overrides)]
    if best and plan.config.fine is None:
        lines += [f"refine around {'the best trial' if plan.objective.is_single else 'the knee of the front'}"]
        lines += [fine_command(plan, overrides)]
    return "\n".join(lines)


def as_settled(overrides: Sequence[str], composed: DictConfig, settled: DictConfig) -> list[str]:
    """What was typed, but keys that stay as the study has them with those values."""
    kept = []
    for text in overrides:
        typed, stays = (OmegaConf.select(config, _key(text)) for config in (composed, settled))
        kept += [text] if typed == stays or OmegaConf.is_config(stays) else [f"{_key(text)}={quoted(stays)}"]
    return kept


def fine_command(plan: Plan, overrides: Sequence[str]) -> str:
    """The fine stage around the best of this study: a study of its own, not to be overwritten because this one was."""
    own = {"search_space", "study_name", "output_dir", "trials", "on_config_change"}
    kept = [text for text in overrides if _key(text).split(".")[0] not in own]
    other = [] if plan.name == f"{plan.config.tuning_id}_{plan.config.surrogate.name}" else [f"fine.study={plan.name}"]
    return arguments.command_line("tune.py", [*kept, "search_space=fine", *other])


def resume_command(overrides: Sequence[str], **budget: float) -> str:
    """The same study again, with another ``budget`` if one is given; nothing that is typed again is to overwrite it."""
    kept = [text for text in overrides if text != "on_config_change=overwrite" and _key(text) not in budget]
    overrides = [*kept, *(f"{key}={value}" for key, value in budget.items())]
    return arguments.command_line("tune.py", overrides)


def write_trials(path: Path, trials: Sequence[FrozenTrial], objective: Objective) -> None:
    """One row per trial: number, outcome, what was measured if it is complete, hyperparameters, what is ``KEPT`` of it.

    Last the folder of its model, relative to that of the table, where it has been kept.
    """
    names = sorted({name for trial in trials for name in trial.params})
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["number", "outcome", *METRICS, *names, *KEPT, "model"])
    for trial in trials:
        outcome, record = outcome_of(trial), record_of(trial)
        values = [metric_of(trial, name, objective) if outcome is Outcome.COMPLETE else "" for name in METRICS]
        parameters = [trial.params.get(name, "") for name in names]
        ended = outcome.value if outcome else trial.state.name.lower()
        kept = [record.get(name, "") for name in KEPT]
        is_whole = outcome is Outcome.COMPLETE and kept_model(
            path.parent, trial.number
        )  # others may lie there half written
        model = f"models/{trial.number}" if is_whole else ""
        writer.writerow([trial.number, ended, *values, *parameters, *kept, model])
    write_atomically(path, text.getvalue())


def _spent(trials: Sequence[FrozenTrial]) -> str:
    """Trials and time per outcome."""
    numbers: defaultdict[Outcome, int] = defaultdict(int)
    seconds: defaultdict[Outcome, float] = defaultdict(float)
    for trial in trials:
        outcome = outcome_of(trial)
        if outcome is not None:
            numbers[outcome] += 1
            seconds[outcome] += record_of(trial).get("duration", 0.0)
    whole = sum(seconds.values())
    rows = [
        (
            outcome.value,
            str(numbers[outcome]),
            as_time(round(seconds[outcome])),
            f"{seconds[outcome] / (whole or 1):.0%}",
        )
        for outcome in Outcome
        if numbers[outcome]
    ]
    rows.append(("in all", str(sum(numbers.values())), as_time(round(whole)), ""))
    return table(("outcome", "trials", "time", "share"), rows)


def _describe_pruner(plan: Plan) -> str:
    section, last, every = plan.config.pruner, plan.objective.epochs, plan.config.trainer.evaluate_every
    name = type(plan.pruner).__name__
    if isinstance(plan.pruner, NopPruner):
        return "none"
    if every >= last:
        return f"none: nothing is evaluated before the last of {last} epochs (trainer.evaluate_every)"
    if isinstance(plan.pruner, HyperbandPruner):
        return f"{name}, brackets that first prune at epoch {_evaluated(first_looks(section), every, last)} of {last}"
    if isinstance(plan.pruner, ParetoHalving):
        return f"{name} at epoch {_evaluated(plan.pruner.rungs(last - 1), every, last)} of {last}"
    return name


def _evaluated(epochs: Iterable[int], every: int, last: int) -> str:
    """The first evaluated epochs from those on, where a pruner sees a trial; after the last one there is none."""
    seen = dict.fromkeys(math.ceil(epoch / every) * every for epoch in epochs)
    return ", ".join(str(epoch) for epoch in seen if epoch < last)


def _results(best: Sequence[FrozenTrial], chosen: FrozenTrial, objective: Objective) -> str:
    """The first of the best trials, or the front with its knee; ``chosen`` is among them."""
    shown = best[: SHOWN if objective.is_single else SHOWN_FRONT]
    shown = [*shown, *([] if chosen in shown else [chosen])]
    rows = [
        (
            str(trial.number),
            *map(with_unit, objective.metrics, trial.values),
            f"{record_of(trial).get('duration', 0):.1f} s",
            "knee" if trial is chosen and not objective.is_single else "",
        )
        for trial in shown
    ]
    title = "best trials" if objective.is_single else f"Pareto front of {len(best)} trials"
    if not objective.is_single and len(shown) < len(best):
        title += f", {len(shown)} of them shown"
    return f"{title}\n{table(('trial', *objective.metrics, 'duration', ''), rows)}"


def _aligned(facts: Mapping[str, str]) -> str:
    width = max(map(len, facts)) + 2
    return "\n".join(f"{name:{width}s}{value}" for name, value in facts.items())


def _key(override: str) -> str:
    return override.lstrip("+~").partition("=")[0].partition("@")[0]
