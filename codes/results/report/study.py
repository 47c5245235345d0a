"""The page of one study."""

import platform
from collections import Counter
from collections.abc import Iterable

from omegaconf import OmegaConf
from optuna.trial import FrozenTrial

from codes.metrics import ACCURACY
from codes.results.certificate import Certificate, read_certificate
from codes.results.report.findings import COST, Findings, ended_as, metrics_of
from codes.results.report.history import curves, history
from codes.results.report.page import Gallery, folded, link, page, paragraph, subheading, table
from codes.results.report.parameters import importances, slices
from codes.results.report.style import COLOURS, counted
from codes.results.report.timeline import timeline
from codes.results.report.tradeoff import trade_offs
from codes.results.scores import mean_held_out, worst_quantities
from codes.results.select import knee_stability
from codes.results.side_by_side import SideBySide
from codes.tuning.front import metric_of
from codes.tuning.ledger import record_of
from codes.tuning.space import as_override
from codes.tuning.summary import readable
from codes.versions import version_of

SHOWN = 20  # best trials in the table
PACKAGES = ("codes", "torch", "optuna", "hydra-core", "plotly")


def study_page(findings: Findings, comparison: str | None = None) -> str:
    """HTML of one study; ``comparison`` is the address of the page of all studies, if there is one."""
    gallery = Gallery()
    by_metric = slices(findings)
    titled = len(by_metric) > 1
    sections = [
        ("Asked", _asked(findings)),
        ("Found", _found(findings)),
        ("Certified", _certified(findings)),
        ("Trade-off", gallery.show(*trade_offs(findings))),
        ("History", gallery.show(*history(findings), layout="halves") + gallery.show(curves(findings))),
        (
            "Hyperparameters",
            gallery.show(importances(findings))
            + "".join(
                (subheading(metric) if titled else "") + gallery.show(*pictures, layout="grid")
                for metric, pictures in by_metric.items()
            ),
        ),
        ("Slots", gallery.show(timeline(findings))),
        ("Ledger", _ledger(findings)),
        ("Configuration", _configuration(findings)),
    ]
    lead = paragraph(in_words(findings), "found") + (
        link("all studies of this tuning_id", comparison) if comparison else ""
    )
    return page(f"Study {findings.kept.name}", sections, lead)


def in_words(findings: Findings) -> str:
    """What came of the study, in a sentence."""
    progress = f"{findings.valid} of {findings.target} valid trials"
    chosen = findings.chosen
    if chosen is None:
        ended = counted(map(ended_as, findings.trials))
        yet = " yet" if findings.valid < findings.target else ""
        return f"No result{yet}: {progress}{ended and ', '}{ended}."
    objective = findings.kept.objective
    known = {**metrics_of(chosen), **dict(zip(objective.metrics, chosen.values, strict=True))}
    first, *others = dict.fromkeys([*objective.metrics, *(name for name in findings.axes if name in known)])
    told = {name: findings.quantity(name, known[name]) for name in (first, *others)}
    if COST in told:
        told[COST] += " for the test split"
    costs = ", ".join(f"{name} {told[name]}" for name in others)
    which = f"best trial {chosen.number}" if objective.is_single else f"trial {chosen.number}, the knee of the front"
    at = f" at {costs}" if costs else ""
    value = told[first]
    if first in ACCURACY:
        val = findings.held_out.get(first)
        value += f" on test ({'not scored' if val is None else findings.quantity(first, val)} on val)"
    found = f"{findings.surrogate} reaches {first} {value}{at}: {which}, {progress}."
    return found + (f" No score on val: {findings.unscored}." if findings.unscored else _against_mean(findings, first))


def _against_mean(findings: Findings, metric: str) -> str:
    """What ``metric`` is on ``val`` for the mean training trajectory; nothing where it is not known."""
    own, mean = findings.held_out.get(metric), mean_held_out(findings.kept).get(metric)
    if own is None or mean is None:
        return ""
    verdict = "" if own < mean else ", so that this one is of no use"
    return f" The mean training trajectory has {findings.quantity(metric, mean)} on val{verdict}."


def _asked(findings: Findings) -> str:
    config, objective = findings.kept.config, findings.kept.objective
    goals = zip(objective.directions, objective.metrics, strict=True)
    facts = [
        ("surrogate", findings.surrogate),
        ("dataset", str(config.dataset.name)),
        ("objective", ", ".join(f"{direction} {name}" for direction, name in goals)),
        ("valid trials", f"{config.trials}, each of {config.trainer.epochs} epochs"),
        ("sampler", str(config.sampler._target_).rpartition(".")[2]),
        ("pruner", str(config.pruner._target_).rpartition(".")[2]),
        ("outputs", str(findings.kept.folder)),
        ("read", f"{findings.read:%Y-%m-%d %H:%M:%S}"),
    ]
    rows = [(tuned.name, tuned.range, readable(tuned.when)) for tuned in findings.space]
    return table(("", ""), facts) + subheading("tuned") + table(("parameter", "range", "when"), rows)


def _found(findings: Findings) -> str:
    chosen = findings.chosen
    if chosen is None:
        return paragraph("No trial is complete yet.")
    objective = findings.kept.objective
    title = "best trials" if objective.is_single else "Pareto front"
    names = list(dict.fromkeys([*objective.metrics, *findings.axes]))
    rows = [
        (
            f"{trial.number}{' (chosen)' if trial is chosen else ''}",
            *(_value(findings, trial, name) for name in names),
            f"{record_of(trial).get('duration', 0.0):.1f} s",
        )
        for trial in findings.best[:SHOWN]
    ]
    shown = f"{title}: {min(SHOWN, len(findings.best))} of {len(findings.best)}"
    parts = [subheading(shown), table(("trial", *names, "duration"), rows, numbers=True)]
    if not objective.is_single:
        parts.append(paragraph(_stability(findings, chosen)))
    parts += [subheading(f"trial {chosen.number}"), _scores(findings)]
    parts.append(table(("parameter", "value"), [(name, _shown(value)) for name, value in chosen.params.items()]))
    return "".join(parts)


def _value(findings: Findings, trial: FrozenTrial, name: str) -> str:
    value = metric_of(trial, name, findings.kept.objective)
    return "" if value is None else findings.quantity(name, value)


def _shown(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else as_override(value)


def _stability(findings: Findings, chosen: FrozenTrial) -> str:
    shares = knee_stability(findings.trials, findings.kept.objective)
    text = ", ".join(f"trial {number} in {share:.0%}" for number, share in list(shares.items())[:3])
    return (
        f"When the complete trials are drawn anew with replacement, 200 times, this is how often each is the knee: "
        f"{text}. Each share is of the draws that have this trial, so that they do not add up to 100%."
    )


def _scores(findings: Findings) -> str:
    """Accuracy on ``test`` and ``val``; empty where there is none on ``val``, which the first sentence explains."""
    if findings.unscored:
        return ""
    columns = {"test, chosen by it": findings.both_scores["test"], "val, seen by no choice": findings.held_out}
    if mean := mean_held_out(findings.kept):
        columns["mean training trajectory on val"] = mean
    rows = [
        (name, *(findings.quantity(name, errors[name]) if name in errors else "" for errors in columns.values()))
        for name in findings.held_out
    ]
    worst = worst_quantities(findings.kept, findings.chosen) if findings.chosen else {}
    told = ", ".join(f"{label} {findings.quantity('lae99', error)}" for label, error in worst.items())
    shown = table(("", *columns), rows, numbers=True)
    return shown + (paragraph(f"Quantities with the largest lae99 on val: {told}.") if len(worst) > 1 else "")


def _certified(findings: Findings) -> str:
    """What ``codes.certify`` measured again; empty before it did."""
    found = read_certificate(findings.kept.study, findings.trials, findings.kept.objective)
    return certified(found) if found else ""


def certified(found: Certificate | SideBySide) -> str:
    """What was measured again: its tables, and how to read them."""
    comparisons = "".join(table(header, rows) for header, rows in found.comparisons())
    return table(found.columns, found.rows()) + comparisons + "".join(map(paragraph, found.notes()))


def _ledger(findings: Findings) -> str:
    ended = Counter(ended_as(trial) for trial in findings.trials)
    seconds: Counter[str] = Counter()
    for trial in findings.trials:
        seconds[ended_as(trial)] += record_of(trial).get("duration", 0.0)
    whole = sum(seconds.values()) or 1.0
    rows = [
        (name, str(ended[name]), f"{seconds[name] / 60:.1f} min", f"{seconds[name] / whole:.0%}")
        for name in COLOURS
        if ended[name]
    ]
    counts = table(("ended as", "trials", "time in slots", "share"), rows, numbers=True)
    return counts + _causes(findings.trials)


def _causes(trials: Iterable[FrozenTrial]) -> str:
    """First lines of what went wrong, most frequent first."""
    wrong = ("crashed", "failed", "out_of_memory", "diverged")
    causes = Counter(
        (ended_as(trial), record_of(trial).get("reason", "")) for trial in trials if ended_as(trial) in wrong
    )
    rows = [(str(number), outcome, reason[:300]) for (outcome, reason), number in causes.most_common(10)]
    return subheading("causes") + table(("trials", "ended as", "reason"), rows) if rows else ""


def _configuration(findings: Findings) -> str:
    versions = ", ".join(f"{name} {version_of(name)}" for name in PACKAGES)
    made = paragraph(f"Page made with {versions}, Python {platform.python_version()}.")
    kept = OmegaConf.masked_copy(findings.kept.config, [str(key) for key in findings.kept.config if key != "storage"])
    return folded("as it was started", OmegaConf.to_yaml(kept)) + made
