"""Which trials are best: of one objective an order, of several a Pareto front and its knee.

Only trials with the outcome ``complete`` take part. Optuna's own ``best_trials`` also knows trials that were pruned or
ran out of time: in a study of several objectives they are told with the values they had, or capped ones.
"""

import math
from collections.abc import Iterable, Sequence

from optuna.trial import FrozenTrial

from codes.metrics import accuracy_of
from codes.tuning.ledger import outcome_of, record_of
from codes.tuning.objective import Objective
from codes.tuning.outcomes import Outcome


def best_trials(trials: Iterable[FrozenTrial], objective: Objective) -> list[FrozenTrial]:
    """Complete trials of a single objective, best first; of several their Pareto front, best first metric first."""
    if not objective.is_single:
        return pareto_front(trials, objective)
    return sorted(_complete(trials), key=lambda trial: objective.losses(trial.values))


def recommended(best: Sequence[FrozenTrial], objective: Objective) -> FrozenTrial:
    """The trial to go on with, of ``best_trials``: the best of a single objective, the knee of several."""
    return best[0] if objective.is_single else knee(best, objective)


def pareto_front(trials: Iterable[FrozenTrial], objective: Objective) -> list[FrozenTrial]:
    """Complete trials that no other one beats: at least as good in all metrics and better in one.

    In the order of the first metric, best first. Of trials with the same values all stay.
    """
    front: list[tuple[tuple[float, ...], FrozenTrial]] = []
    complete = ((objective.losses(trial.values), trial) for trial in _complete(trials))
    for losses, trial in sorted(complete, key=lambda entry: entry[0]):  # what beats a trial comes before it
        if not any(dominates(other, losses) for other, _ in front):
            front.append((losses, trial))
    return [trial for _, trial in front]


def dominates(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether the losses ``one`` are at least as good as the ``other`` in all metrics, and better in one."""
    return one != other and all(a <= b for a, b in zip(one, other, strict=True))


def accurate_and_fast(trials: Iterable[FrozenTrial], objective: Objective) -> list[FrozenTrial]:
    """Complete trials that no other one beats in accuracy and inference time, optimised or not; fastest last."""
    measured = [
        (accuracy, time, trial.number, trial)
        for trial in _complete(trials)
        if (accuracy := metric_of(trial, accuracy_of(objective.metrics), objective)) is not None
        and (time := metric_of(trial, "inference_time", objective)) is not None
    ]
    front: list[FrozenTrial] = []
    least = math.inf
    for _, time, _, trial in sorted(measured, key=lambda entry: entry[:3]):
        if time < least:
            front.append(trial)
            least = time
    return front


def metric_of(trial: FrozenTrial, name: str, objective: Objective) -> float | None:
    """A metric of a complete ``trial`` on the ``test`` split, optimised or not; None where it was not measured."""
    if name in objective.metrics:
        return float(trial.values[objective.metrics.index(name)])
    value = record_of(trial).get("metrics", {}).get(name)
    return None if value is None else float(value)


def knee(front: Sequence[FrozenTrial], objective: Objective) -> FrozenTrial:
    """The trial of a Pareto front with the largest distance to the chord between its extremes, towards the ideal.

    Each metric is made a loss (a maximised one counts negatively), its logarithm is taken where the whole front is
    positive, as for errors and times, and it is scaled to [0, 1] over the front. Two extremes are then (0, 1) and
    (1, 0), and the distance to their chord is ``(1 - x - y) / sqrt(2)``; with more metrics the chord is the plane on
    which the coordinates add up to one. So the knee has the smallest sum of coordinates. On a front that bends away
    from the ideal no trial is below the chord and an extreme is returned; so it is for one trial, and with two metrics
    for two. Among equals the better first metric decides.

    Sources: I. Das, On characterizing the "knee" of the Pareto curve based on Normal-Boundary Intersection, Structural
    Optimization 18, 107-115 (1999); for the scaled chord V. Satopaa et al., Finding a "kneedle" in a haystack, ICDCSW
    2011, 166-171.

    Raises:
        ValueError: the front is empty.
    """
    if not front:
        raise ValueError("an empty front has no knee")
    columns = [_scaled(column) for column in zip(*logarithmic_losses(front, objective), strict=True)]
    points = list(zip(*columns, strict=True))
    # Rounded, so that trials on the chord are equals whatever the last digits of their sums are.
    return min(zip(points, front, strict=True), key=lambda pair: (round(sum(pair[0]), 9), pair[0]))[1]


def logarithmic_losses(trials: Sequence[FrozenTrial], objective: Objective) -> list[tuple[float, ...]]:
    """Losses of each of ``trials``; of a metric that is positive in all of them its logarithm to base 10."""
    positive = [min(column) > 0 for column in zip(*(trial.values for trial in trials), strict=True)]
    return [
        objective.losses(
            [math.log10(value) if takes_log else value for value, takes_log in zip(trial.values, positive, strict=True)]
        )
        for trial in trials
    ]


def _complete(trials: Iterable[FrozenTrial]) -> list[FrozenTrial]:
    return [trial for trial in trials if outcome_of(trial) is Outcome.COMPLETE]


def _scaled(column: Sequence[float]) -> list[float]:
    """From 0 (the least) to 1 (the greatest); 0 where all are equal."""
    low, span = min(column), max(column) - min(column)
    return [(value - low) / span if span else 0.0 for value in column]
