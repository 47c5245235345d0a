"""Pictures of hyperparameters: which of them matter, and where in their ranges the results are good."""

import math
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import optuna
import plotly.graph_objects as go
from optuna.importance import PedAnovaImportanceEvaluator
from optuna.trial import FrozenTrial
from optuna.visualization import plot_param_importances, plot_slice

from codes.results.report.findings import Findings
from codes.results.report.style import STUDIES, Picture, axis, mark_chosen, span
from codes.results.report.view import view
from codes.tuning.space import Parameter, as_override
from codes.tuning.summary import readable

Value = Callable[[FrozenTrial], float]

ENOUGH = 10  # complete trials
TOP = 5  # trials that count as good, at least: PED-ANOVA is not stable with fewer, says its documentation
SHARE = 0.1  # of the trials that count as good, its default
UNDECIDED = "will be equal"  # in Optuna's warning that it could not tell one parameter from another


def importances(findings: Findings) -> Picture:
    """Importance of each parameter for being among the best trials, for each metric.

    PED-ANOVA (S. Watanabe et al., IJCAI 2023; K. Ito et al., KDD 2026 for conditional parameters): the only one of
    Optuna's that knows conditional parameters, and it does without scikit-learn.
    """
    title = "hyperparameter importances"
    complete = findings.complete
    if len(complete) < ENOUGH:
        return Picture(title, f"Computed from {ENOUGH} complete trials on; there are {len(complete)}.")
    share = max(SHARE, TOP / len(complete))
    study = _results(findings)
    figure = go.Figure()
    often, seldom = _judged(findings)
    doubts: list[str] = []
    for column, metric in enumerate(findings.kept.objective.metrics):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                made = plot_param_importances(
                    study,
                    evaluator=PedAnovaImportanceEvaluator(target_quantile=share),
                    params=often,
                    target=_loss(findings, column),
                    target_name=metric,
                )
            except (ValueError, ArithmeticError) as error:
                doubts.append(f"Optuna cannot compute them for {metric}: {error}.")
                continue
        if any(UNDECIDED in str(warning.message) for warning in caught):
            doubts.append(f"For {metric} all complete trials are equally good, so no parameter is more important.")
            continue
        made.update_traces(marker_color=STUDIES[column])
        figure.add_traces(made.data)
        figure.update_layout(made.layout)
    if seldom:
        doubts.append(f"Not judged, active in fewer than {ENOUGH} complete trials: {', '.join(seldom)}.")
    doubt = " ".join(dict.fromkeys(doubts))
    if not figure.data:
        return Picture(title, doubt)
    number = math.ceil(share * len(complete))  # as Optuna counts
    text = (
        f"PED-ANOVA: how much the distribution of a parameter over the {number} best of {len(complete)} complete "
        "trials differs from that over all of them; shares of 1 for each metric. A conditional parameter counts where "
        f"it was active. It says what mattered in this study, with its ranges and its pruning, not how "
        f"good a value is. {doubt}"
    )
    height = 130 + 24 * len(often) * len(findings.kept.objective.metrics)
    figure.update_layout(showlegend=not findings.kept.objective.is_single, margin_l=150)
    return Picture(title, text, figure, height)


def _judged(findings: Findings) -> tuple[list[str], list[str]]:
    """Names of the parameters that were active in ``ENOUGH`` complete trials, and of the others.

    Of a few trials the good ones are always somewhere: one of two would look more important than all else.
    """
    active = Counter(name for trial in findings.complete for name in trial.params)
    names = [parameter.name for parameter in findings.space]
    return [name for name in names if active[name] >= ENOUGH], [name for name in names if active[name] < ENOUGH]


def _results(findings: Findings) -> optuna.Study:
    """The complete trials with their values; all others without."""
    numbers = {trial.number for trial in findings.complete}
    directions = findings.kept.objective.directions
    return view(findings.trials, directions, lambda trial: trial.values if trial.number in numbers else None)


def _loss(findings: Findings, column: int) -> Value:
    """The metric in ``column``, less is better: what the evaluator takes for granted."""
    return lambda trial: findings.kept.objective.losses(trial.values)[column]


def slices(findings: Findings) -> dict[str, list[Picture]]:
    """For each metric: its value against each parameter, over the complete trials in which the parameter was active."""
    if not findings.complete:
        return {}
    study = _results(findings)
    return {
        metric: [_slice(findings, study, parameter, column) for parameter in findings.space]
        for column, metric in enumerate(findings.kept.objective.metrics)
    }


def _slice(findings: Findings, study: optuna.Study, parameter: Parameter, column: int) -> Picture:
    complete = findings.complete
    active = [trial for trial in complete if parameter.name in trial.params]
    condition = f" where {readable(parameter.when)}" if parameter.when is not None else ""
    text = f"{len(active)} of {len(complete)} complete trials{condition}; the darker, the later."
    if not active:
        return Picture(parameter.name, f"Active in no complete trial{condition}.")
    metric = findings.kept.objective.metrics[column]
    figure = plot_slice(
        study, params=[parameter.name], target=lambda trial: trial.values[column], target_name=findings.label(metric)
    )
    figure.update_traces(marker={"showscale": False, "colorscale": "Blues", "cmin": -len(findings.trials) / 3})
    figure.update_layout(showlegend=False)
    values = [trial.values[column] for trial in complete]
    scaled = axis(values)
    figure.update_yaxes(**scaled, range=span(min(values), max(values), scaled["type"] == "log"))
    figure.update_xaxes(_own_axis(parameter, [trial.params[parameter.name] for trial in active]))
    chosen = findings.chosen
    if chosen in active:
        value = chosen.params[parameter.name]
        mark_chosen(figure, findings, repr(value) if parameter.kind == "categorical" else value, chosen.values[column])
    return Picture(parameter.name, text, figure, height=300)


def _own_axis(parameter: Parameter, values: Sequence[Any]) -> dict[str, Any]:
    """The whole range of ``parameter``, whichever part of it ``values`` have reached; choices in their order."""
    if parameter.kind == "categorical":
        known = list(dict.fromkeys([*parameter.choices, *values]))
        names = list(map(repr, known))  # as Optuna calls them
        order = {"categoryorder": "array", "categoryarray": names, "range": [-0.5, len(known) - 0.5]}
        return {"type": "category", "tickvals": names, "ticktext": list(map(as_override, known)), **order}
    low, high = min([parameter.low, *values]), max([parameter.high, *values])
    return {"range": span(low, high, parameter.log), **(axis([low, high]) if parameter.log else {"nticks": 6})}
