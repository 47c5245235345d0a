"""Trials of a study of several objectives that are stopped because others beat them."""

from contextlib import nullcontext

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codes.errors import UserError
from codes.tuning.front import pareto_front
from codes.tuning.ledger import Ledger, outcome_of, record_of
from codes.tuning.outcomes import Outcome, Verdict
from codes.tuning.plan import plan_study
from codes.tuning.presence import Presence
from codes.tuning.pruners import RUNG, ParetoHalving, in_better_fronts
from codes.tuning.study import run_study
from tests.tuning.studies import RUNNERS, composed, study_in


def stopped(*points, **settings):
    """Of trials that reach the first rung one after the other, which are stopped there."""
    pruner = ParetoHalving(**{"min_resource": 10, "reduction_factor": 3, "bootstrap_count": 0, **settings})
    study = optuna.create_study(directions=["minimize", "minimize"])
    found = []
    for point in points:
        trial = study.ask()
        assert pruner.enter(trial, 10, point)
        found += [point] if pruner.prune(study, trial) else []
    return found


def test_what_a_third_of_the_rung_beats_is_stopped():
    assert stopped((5, 1)) == [], "nothing to compare with"
    assert stopped((5, 1), (4, 1), (6, 1), (3, 1), (3.5, 1)) == [(6, 1), (3.5, 1)]
    assert stopped((1, 1), (2, 1), (3, 1), (4, 1), (5, 1), (1.5, 1)) == [(2, 1), (3, 1), (4, 1), (5, 1)]


def test_who_cannot_be_beaten_goes_on_however_inaccurate():
    assert stopped((1, 9), (2, 8), (3, 7), (90, 1), (91, 2)) == [(91, 2)]
    assert stopped((1, 1), (2, 2), (9, 9), bootstrap_count=2) == [(9, 9)]


def test_a_rung_is_entered_once_by_its_last_epoch_at_most():
    assert ParetoHalving(1, 2, 0).rungs(5) == [1, 2, 4], "the least that is legal"
    pruner = ParetoHalving(10, 3, 0)
    trial = optuna.create_study(directions=["minimize"] * 2).ask()
    assert pruner.rungs(100) == [10, 30, 90]
    entered = [epoch for epoch in (4, 8, 12, 16, 28, 32, 100, 104) if pruner.enter(trial, epoch, [epoch, 1])]
    assert entered == [12, 32, 100]
    assert [trial.user_attrs[f"{RUNG}{rung}"] for rung in range(3)] == [[epoch, 1] for epoch in entered]
    late = optuna.create_study(directions=["minimize"] * 2).ask()
    assert pruner.enter(late, 50, [1, 1]) and list(late.user_attrs) == [f"{RUNG}1"], "no evaluation at the first rung"


def test_a_trial_that_is_lost_and_queued_anew_has_been_at_no_rung():
    pruner = ParetoHalving(10, 3, 0)
    study = optuna.create_study(directions=["minimize"] * 2, pruner=pruner)
    ledger = Ledger(study, 3, Presence(study), nullcontext)
    study.enqueue_trial({"hidden_size": 32})
    lost = ledger.claim("cpu", "a CPU", 42)
    assert pruner.enter(lost, 10, [5, 1])
    ledger.settle(lost, Verdict(Outcome.INTERRUPTED))
    again = ledger.claim("cpu", "a CPU", 42)
    assert again.suggest_int("hidden_size", 1, 64) == 32
    assert pruner.enter(again, 10, [5, 1]), "else it is never compared, and counts there before it has begun"


POINTS = st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5)), max_size=12)


@given(POINTS, st.tuples(st.integers(1, 5), st.integers(1, 5)))
def test_fronts_are_peeled_off_one_by_one(others, point):
    left, before = [*others, point], 0
    while True:
        front = [p for p in left if not any(q != p and q[0] <= p[0] and q[1] <= p[1] for q in left)]
        if point in front:
            break
        before += len(front)
        left = [p for p in left if p not in front]
    assert in_better_fronts(point, others) == before


def test_a_study_stops_them_and_goes_on_with_its_rungs_when_it_is_resumed(tmp_path, capsys):
    settings = ["objective=dual", "pruner=pareto_halving", "sampler=random", "warm_start=false", "time_pruning=false"]
    run_study(composed(tmp_path, *settings, "trials=6"), RUNNERS + "equally_fast_in_steps")
    config = composed(tmp_path, *settings, "trials=14")
    run_study(config, RUNNERS + "equally_fast_in_steps")
    trials = study_in(tmp_path).trials
    rungs: list[list[float]] = [[], [], []]
    for trial in trials:
        error = record_of(trial)["metrics"]["mlae"]
        for rung, epoch in enumerate((10, 30, 90)):
            rungs[rung].append(error)
            if sorted(rungs[rung]).index(error) >= max(1, len(rungs[rung]) // 3):
                assert (outcome_of(trial), record_of(trial)["epoch"]) == (Outcome.PRUNED, epoch)
                assert (trial.state.name, trial.values) == ("COMPLETE", [error + 1 / epoch, 1e-3])
                break
        else:
            assert outcome_of(trial) is Outcome.COMPLETE
    complete = {trial.number for trial in trials if outcome_of(trial) is Outcome.COMPLETE}
    assert 0 < len(complete) < 14
    assert {trial.number for trial in pareto_front(trials, plan_study(config).objective)} <= complete
    shown = capsys.readouterr().out
    assert "ParetoHalving at epoch 10, 30, 90 of 100" in shown
    assert "inference_time = 1 ms at epoch 10" in shown


REFUSED = {
    "pareto_halving needs several objectives": ["pruner=pareto_halving"],
    "reduction_factor at least 2": ["objective=dual", "pruner=pareto_halving", "pruner.reduction_factor=1"],
    "pareto_halving needs an evaluation before": ["objective=dual", "pruner=pareto_halving", "trainer.epochs=10"],
    "set pruner=pareto_halving": ["objective=dual", "pruner=median"],
}


@pytest.mark.parametrize("rule", REFUSED)
def test_where_it_cannot_work_it_is_refused(rule, tmp_path):
    with pytest.raises(UserError, match=rule):
        plan_study(composed(tmp_path, *REFUSED[rule]))
