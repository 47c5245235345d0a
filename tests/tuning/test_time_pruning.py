"""Trainings that would take much longer than the others."""

from contextlib import nullcontext

import optuna
import pytest

from codes.tuning.front import pareto_front
from codes.tuning.ledger import Ledger, outcome_of, record_of
from codes.tuning.outcomes import Outcome, Verdict
from codes.tuning.plan import plan_study
from codes.tuning.presence import Presence
from codes.tuning.study import run_study
from codes.tuning.time_pruning import TimePruning
from codes.tuning.watch import Watch
from tests.tuning.studies import RUNNERS, composed, outcomes, study_in


@pytest.fixture
def ledger():
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study()
    return Ledger(study, 20, Presence(study), nullcontext)


def ended(ledger, seconds, outcome=Outcome.COMPLETE, hardware="A", together=1):
    """Trials that took, or would have taken, these ``seconds``."""
    for projected in seconds:
        trial = ledger.claim("cpu", hardware, 42) or ledger.study.ask()
        ledger.settle(
            trial,
            Verdict(outcome, projected=projected, together=together),
            [1.0] if outcome is Outcome.COMPLETE else [],
        )


def test_the_limit_is_mean_plus_standard_deviation_of_the_first_valid_trials(ledger):
    pruning = TimePruning(ledger)
    ended(ledger, [100.0] * 3, Outcome.FAILED)
    ended(ledger, [1.0, 9.0] * 4)
    ended(ledger, [5.0], Outcome.PRUNED)
    assert pruning.renew("A") is None and pruning.limit("A") is None
    ended(ledger, [5.0], Outcome.DIVERGED)
    assert "are stopped from now on" in pruning.renew("A")
    limit = 5.0 + (8 * 16 / 10) ** 0.5
    assert pruning.limit("A") == pytest.approx(limit)
    ended(ledger, [1000.0] * 5)
    assert pruning.renew("A") is None and pruning.limit("A") == pytest.approx(limit), "fixed"
    assert TimePruning(ledger).limit("A") == pytest.approx(limit), (
        "kept in the study, for the next launch's first trial"
    )


def test_the_warm_up_is_a_tenth_of_a_long_study(ledger):
    ledger.target = 250
    pruning = TimePruning(ledger)
    ended(ledger, [2.0] * 24)
    assert pruning.renew("A") is None
    ended(ledger, [2.0])
    assert pruning.renew("A") is not None


def test_equal_durations_prune_nothing_that_is_only_noise(ledger):
    pruning = TimePruning(ledger)
    ended(ledger, [2.0] * 10)
    pruning.renew("A")
    assert pruning.limit("A") == 3.0


def test_each_model_of_device_has_its_own_limit(ledger):
    pruning = TimePruning(ledger)
    ended(ledger, [2.0] * 10, hardware="fast")
    ended(ledger, [20.0] * 9, hardware="slow")
    pruning.renew("fast"), pruning.renew("slow")
    assert (pruning.limit("fast"), pruning.limit("slow")) == (3.0, None)


def test_stacks_of_another_size_have_a_limit_of_their_own(ledger):
    pruning = TimePruning(ledger)
    ended(ledger, [20.0] * 10)
    ended(ledger, [2.0] * 9, together=8)
    assert "on A are" in pruning.renew("A") and pruning.renew("A", 8) is None
    ended(ledger, [2.0], together=8)
    assert "on A, 8 trials together are" in pruning.renew("A", 8)
    assert (pruning.limit("A"), pruning.limit("A", 8), pruning.limit("A", 4)) == (30.0, 3.0, None)


def test_of_a_stack_the_first_evaluation_is_projected(ledger):
    """Later its members have fewer to share with."""
    objective = plan_study(composed("unused")).objective
    limits = {1: 3.0, 8: 25.0}
    watch = Watch(ledger.study.ask(), objective, limits.get)
    assert watch(10, {"lae99": 1.0, "train_time": 2.0}, 8) is None and watch.projected == 20.0
    assert watch(20, {"lae99": 1.0, "train_time": 9.0}, 8) is None and watch.projected == 20.0
    assert "more than the limit of 3 s" in watch(30, {"lae99": 1.0, "train_time": 1.5}) and watch.projected == 5.0


def test_a_limit_that_stops_more_than_half_is_taken_anew(ledger):
    pruning = TimePruning(ledger)
    ended(ledger, [2.0] * 10)
    pruning.renew("A")
    ended(ledger, [8.0] * 5, Outcome.TIME_PRUNED)
    ended(ledger, [2.0] * 4)
    ended(ledger, [2.0] * 3, Outcome.FAILED)
    assert pruning.renew("A") is None, "nine say nothing"
    ended(ledger, [8.0], Outcome.TIME_PRUNED)
    assert pruning.renew("A") is not None
    assert pruning.limit("A") == pytest.approx(12.0)


def test_a_machine_that_becomes_slow_late_does_not_stop_everything(ledger):
    ledger.target = 100
    pruning = TimePruning(ledger)
    ended(ledger, [2.0] * 10)
    pruning.renew("A")
    ended(ledger, [2.0] * 80)
    ended(ledger, [8.0] * 10, Outcome.TIME_PRUNED)
    assert pruning.renew("A") is None
    ended(ledger, [8.0], Outcome.TIME_PRUNED)
    assert pruning.renew("A") is not None
    assert pruning.limit("A") == pytest.approx(12.0)


def test_slow_trials_are_stopped_and_replaced(tmp_path, capsys):
    run_study(composed(tmp_path, "trials=20", "pruner=none"), RUNNERS + "timed")
    study = study_in(tmp_path)
    found = outcomes(tmp_path)
    assert found["complete"] == 20 and found["time_pruned"] == sum(n % 3 == 0 for n in range(12, len(study.trials)))
    stopped = [trial for trial in study.trials if outcome_of(trial) is Outcome.TIME_PRUNED]
    assert {trial.state.name for trial in stopped} == {"PRUNED"}
    assert {record_of(trial)["epoch"] for trial in stopped} == {10}
    assert {record_of(trial)["projected"] for trial in stopped} == {100.0}
    assert "would train for 100 s, more than the limit of 1.5 s" in capsys.readouterr().out
    assert all(record_of(trial)["peak_memory"] > 1e6 for trial in study.trials)
    assert all(record_of(trial)["hardware"] for trial in study.trials)


def test_the_epochs_that_a_trial_has_sampled_are_what_its_time_is_projected_to(tmp_path, capsys):
    config = composed(tmp_path, "trials=6", "pruner=none", "sampler=random", "warm_start=false")
    config.search_space = {"trainer": {"epochs": {"choices": [20, 100]}}}
    run_study(config, RUNNERS + "timed")
    trials = study_in(tmp_path).trials
    assert {trial.params["trainer.epochs"] for trial in trials} == {20, 100}
    assert all(record_of(trial)["projected"] == record_of(trial)["metrics"]["train_time"] for trial in trials)


def test_with_several_objectives_they_are_told_with_capped_values_and_never_shown(tmp_path, capsys):
    config = composed(tmp_path, "trials=14", "objective=dual", "loss_cap=7")
    run_study(config, RUNNERS + "timed")
    study = study_in(tmp_path)
    stopped = [trial for trial in study.trials if outcome_of(trial) is Outcome.TIME_PRUNED]
    assert [(trial.state.name, trial.values) for trial in stopped] == [("COMPLETE", [7.0, 10.0])]
    front = pareto_front(study.trials, plan_study(config).objective)
    assert front and not {trial.number for trial in front} & {trial.number for trial in stopped}
    shown = capsys.readouterr().out.partition("Pareto front")[2].splitlines()
    assert not [line for line in shown if line.split()[:1] == [str(stopped[0].number)]]


@pytest.mark.parametrize("objective", ["accuracy", "dual"])
def test_a_training_that_comes_to_no_evaluation_is_stopped_and_replaced(objective, tmp_path):
    config = composed(tmp_path, "trials=13", "pruner=none", "deadline=1", f"objective={objective}")
    run_study(config, RUNNERS + "stuck")
    trials = study_in(tmp_path).trials
    assert outcomes(tmp_path) == {"complete": 13, "time_pruned": 1}
    assert outcome_of(trials[12]) is Outcome.TIME_PRUNED and trials[12].state.name == "PRUNED"
    reason = record_of(trials[12])["reason"]
    assert reason.startswith("no evaluation in ") and "more than the limit of 1.5 s for all epochs" in reason


def test_switched_off(tmp_path):
    run_study(composed(tmp_path, "trials=14", "pruner=none", "time_pruning=false"), RUNNERS + "timed")
    assert outcomes(tmp_path) == {"complete": 14}
