"""Picks against known answers; what has not ended as complete is never chosen."""

from itertools import product

import optuna
import pytest

from codes.errors import UserError
from codes.results.select import choose, knee_stability, select
from codes.tuning.front import knee, pareto_front
from codes.tuning.objective import Objective
from codes.tuning.study import run_study
from tests.tuning.studies import RUNNERS, composed, study_in

SINGLE = Objective(("lae99",), epochs=100)
DUAL = Objective(("lae99", "inference_time"), epochs=100)
OTHER = Objective(("n_parameters", "mlae"), epochs=100)
POINTS = [(0.1, 9.0), (0.2, 2.0), (0.4, 1.0), (0.2, 3.0), (0.1, 8.5)]


def trials(*points, outcome="complete", objective=DUAL, first=0):
    """Trials with errors and inference times, told to Optuna as far as ``objective`` has them."""
    made = []
    for number, (error, time) in enumerate(points, first):
        metrics = {"lae99": error, "mlae": error / 2, "inference_time": time, "n_parameters": 1 / error}
        attributes = {"outcome": outcome, "record": {"metrics": metrics}}
        trial = optuna.trial.create_trial(values=objective.values(metrics), user_attrs=attributes)
        trial.number = number
        made.append(trial)
    return made


KNOWN = [
    (SINGLE, "auto", 0),
    (SINGLE, "best", 0),
    (DUAL, "auto", 1),
    (DUAL, "knee", 1),
    (DUAL, "fastest_within=0.2", 1),
    (DUAL, "fastest_within=0.15", 4),
    (DUAL, "most_accurate_within=8.7", 4),
    (SINGLE, "most_accurate_within=2.5", 1),  # measured, though not optimised
    (OTHER, "fastest_within=0.1", 1),  # of mlae, the accuracy that is optimised
    (DUAL, "3", 3),
    (DUAL, 3, 3),
]


@pytest.mark.parametrize(("objective", "pick", "number"), KNOWN)
def test_pick(objective, pick, number):
    tempting = [(1e-9, 1e-9)] * 2
    rejected = trials(*tempting, outcome="time_pruned", objective=objective, first=5)  # COMPLETE for Optuna
    assert choose([*rejected, *trials(*POINTS, objective=objective)], objective, pick).number == number


REFUSED = {
    "pick must be best, knee, .*'fastest'": (DUAL, "fastest"),
    "pick must be .*'best=3'": (SINGLE, "best=3"),
    "pick must be .*'fastest_within'": (DUAL, "fastest_within"),
    "limit must be a positive number, but is 'x'": (DUAL, "fastest_within=x"),
    "limit must be a positive number, but is '-1'": (DUAL, "most_accurate_within=-1"),
    "no trial has lae99 within 0.01; the least is 0.1": (DUAL, "fastest_within=0.01"),
    "pick=best needs a single objective": (DUAL, "best"),
    "pick=knee needs several objectives": (SINGLE, "knee"),
    "there is no trial 9": (DUAL, "9"),
    "trial 5 ended as time_pruned": (DUAL, "5"),
}


@pytest.mark.parametrize("message", REFUSED)
def test_refused(message, recwarn):
    objective, pick = REFUSED[message]
    rejected = trials((1e-9, 1e-9), outcome="time_pruned", objective=objective, first=5)
    with pytest.raises(UserError, match=message):
        choose([*trials(*POINTS, objective=objective), *rejected], objective, pick)


def test_a_pick_by_what_no_trial_has_kept_is_refused():
    (made,) = trials((0.1, 9.0), objective=SINGLE)
    del made.user_attrs["record"]  # of somebody else's coordinator
    with pytest.raises(UserError, match="no trial has kept both its inference_time and its lae99"):
        choose([made], SINGLE, "fastest_within=1")


@pytest.mark.parametrize("outcome", ["pruned", "diverged", "time_pruned", "out_of_memory", "crashed", "failed"])
def test_without_a_complete_trial_nothing_is_chosen(outcome):
    with pytest.raises(UserError, match="no trial of the study is complete"):
        choose(trials(*POINTS, outcome=outcome), DUAL, "knee")
    assert knee_stability(trials(*POINTS, outcome=outcome), DUAL) == {}


def test_stability_is_the_share_of_all_resamples():
    """Of four trials all 256 resamples can be listed."""
    made = trials((1, 100), (2, 15), (20, 1.2), (100, 1))
    had, chosen = [0] * 4, [0] * 4
    for drawn in product(range(4), repeat=4):
        for number in set(drawn):
            had[number] += 1
        chosen[knee(pareto_front([made[number] for number in sorted(set(drawn))], DUAL), DUAL).number] += 1
    found = knee_stability(made, DUAL, resamples=20_000)
    expected = {number: count / total for number, (count, total) in enumerate(zip(chosen, had, strict=True)) if count}
    assert found == pytest.approx(expected, abs=0.02)
    assert next(iter(found)) == max(range(4), key=chosen.__getitem__)


def test_a_knee_that_beats_all_others_is_stable():
    assert knee_stability(trials((1, 1), *[(2 + n, 2 + n) for n in range(9)]), DUAL)[0] == 1


def test_a_study_is_asked_by_what_it_was_started_for(tmp_path):
    run_study(composed(tmp_path, "trials=3", "pruner=none"), RUNNERS + "quadratic")
    study = study_in(tmp_path)
    assert select(study).number == select(study, "best").number == study.best_trial.number
    with pytest.raises(UserError, match="pick=knee needs several objectives"):
        select(study, "knee")
    with pytest.raises(UserError, match="keeps no configuration"):
        select(optuna.create_study(study_name="of somebody else"))
