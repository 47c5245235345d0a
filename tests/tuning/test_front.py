"""Best trials, Pareto fronts and their knees against known answers."""

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codes.metrics import METRICS, MetricInfo
from codes.tuning.front import best_trials, knee, pareto_front
from codes.tuning.objective import Objective

SINGLE = Objective(("lae99",), epochs=100)
DUAL = Objective(("lae99", "inference_time"), epochs=100)
TRIPLE = Objective(("lae99", "inference_time", "n_parameters"), epochs=100)


def trials(*points, outcome="complete"):
    return [optuna.trial.create_trial(values=list(point), user_attrs={"outcome": outcome}) for point in points]


def values(found):
    return [tuple(trial.values) for trial in found]


def test_complete_trials_best_first():
    pruned = trials((0.1,), outcome="diverged")
    assert values(best_trials([*trials((3,), (1,)), *pruned, *trials((2,))], SINGLE)) == [(1,), (2,), (3,)]
    assert best_trials(pruned, SINGLE) == []


def test_a_trial_that_ran_out_of_time_is_on_no_front():
    capped = trials((100, 1e-9), outcome="time_pruned")  # Optuna knows it as complete
    assert values(pareto_front([*capped, *trials((2, 2), (1, 3), (3, 3), (2, 2))], DUAL)) == [(1, 3), (2, 2), (2, 2)]


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(1, 5)), max_size=12))
def test_the_front_is_optunas_where_all_trials_are_complete(points):
    study = optuna.create_study(directions=TRIPLE.directions)
    study.add_trials(trials(*points))
    assert sorted(values(pareto_front(study.trials, TRIPLE))) == sorted(values(study.best_trials))


KNEES = {
    "one trial": ([(1, 9)], (1, 9)),
    "two trials: the more accurate": ([(1, 9), (2, 8)], (1, 9)),
    "farthest below the chord in logarithms, where (2, 15) is in numbers": (
        [(1, 100), (2, 15), (20, 1.2), (100, 1)],
        (20, 1.2),
    ),
    "in numbers where one is zero": ([(0, 100), (2, 15), (20, 1.2), (100, 1)], (20, 1.2)),
    "on the chord: the more accurate extreme": ([(1, 1000), (10, 100), (100, 10), (1000, 1)], (1, 1000)),
    "bent away from the ideal: an extreme": ([(1, 100), (50, 90), (100, 1)], (1, 100)),
    "all equal": ([(3, 3), (3, 3)], (3, 3)),
}


@pytest.mark.parametrize("case", KNEES)
def test_the_knee_is(case):
    points, expected = KNEES[case]
    assert tuple(knee(pareto_front(trials(*points), DUAL), DUAL).values) == expected


def test_the_knee_of_three_metrics_is_below_the_plane_of_the_extremes():
    front = trials((1, 100, 100), (100, 1, 100), (100, 100, 1), (10, 10, 10))
    assert tuple(knee(front, TRIPLE).values) == (10, 10, 10)


@given(st.lists(st.tuples(st.integers(1, 50), st.integers(1, 50)), min_size=1, max_size=9), st.floats(1e-6, 1e6))
def test_units_do_not_move_the_knee(points, unit):
    front = pareto_front(trials(*points), DUAL)
    scaled = trials(*((error, time * unit) for error, time in values(front)))
    assert values([knee(front, DUAL)])[0][0] == values([knee(scaled, DUAL)])[0][0]


def test_a_maximised_metric_is_turned_round(monkeypatch):
    monkeypatch.setitem(METRICS, "score", MetricInfo("maximize", "", "a metric of a later version"))
    objective = Objective(("score", "inference_time"), epochs=100)
    points = [(1, 1), (50, 1.2), (100, 100), (20, 50)]
    front = pareto_front(trials(*points), objective)
    assert values(front) == [(100, 100), (50, 1.2), (1, 1)]
    assert tuple(knee(front, objective).values) == (50, 1.2)
    assert values(best_trials(trials((1,), (2,)), Objective(("score",), epochs=100))) == [(2,), (1,)]


def test_an_empty_front_has_no_knee():
    assert pareto_front([], DUAL) == []
    with pytest.raises(ValueError, match="empty front"):
        knee([], DUAL)
