"""Known configurations are the first trials of a study, exactly as they are, or left out with the reason."""

import csv
from contextlib import contextmanager, nullcontext

import optuna
import pytest
from omegaconf import OmegaConf
from optuna.trial import TrialState

from codes.tuning.ledger import Ledger, outcome_of
from codes.tuning.outcomes import Outcome, Verdict
from codes.tuning.plan import plan_study
from codes.tuning.presence import Presence
from codes.tuning.study import run_study
from codes.tuning.warm_start import enqueue_known
from tests.command import SMALL
from tests.command import run as run_script
from tests.tuning.studies import RUNNERS, composed, study_in


def sampled(plan, known, number, study=None):
    """What ``number`` trials of the plan try, after what is said of the ``known`` configurations."""
    study = study or optuna.create_study(sampler=plan.sampler(0))
    lines = enqueue_known(study, plan.space, plan.config, known)
    for value in range(number):
        trial = study.ask()
        plan.space.sample(trial, plan.config)
        study.tell(trial, value)
    return lines, study.trials


def test_known_configurations_are_tried_first_exactly(tmp_path):
    overrides = ["surrogate.optimizer=sgd", "surrogate.momentum=0.95", "surrogate.learning_rate=0.001234567890123456"]
    config = composed(tmp_path, "surrogate.scheduler=poly", *overrides, whole_space=True)
    off = composed(tmp_path, "surrogate.activation=Tanh", "surrogate.loss=smooth_l1", whole_space=True)
    lines, trials = sampled(plan_study(config), {"composed": config, "optimal=off": off}, 3)
    assert lines == ["tried first: composed", "tried first: optimal=off"]
    assert [trial.user_attrs.get("known") for trial in trials] == ["composed", "optimal=off", None]
    for trial, known in zip(trials, (config, off), strict=False):
        assert trial.params == {name: known.surrogate[name] for name in trial.params}
    assert trials[0].params["momentum"] == 0.95 and trials[0].params["learning_rate"] == 0.001234567890123456
    assert "poly_power" in trials[0].params and not {"eta_min", "beta"} & trials[0].params.keys()
    assert "beta" in trials[1].params


def test_conditions_are_those_of_the_study_not_of_the_known_configuration(tmp_path):
    """Only the study's config knows what its data says."""
    config, off = (composed(tmp_path, whole_space=True) for _ in range(2))
    plan = plan_study(config)
    config.dataset.n_parameters = 2
    _, trials = sampled(plan, {"optimal=off": off}, 1)
    assert trials[0].params["params_branch"] == off.surrogate.params_branch


@pytest.mark.parametrize("settings", [["surrogate.beta=0.5"], []], ids=["differs in what is not tuned", "equal"])
def test_one_like_another_is_tried_once(settings, tmp_path):
    config = composed(tmp_path)
    lines, trials = sampled(plan_study(config), {"composed": config, "again": composed(tmp_path, *settings)}, 2)
    assert lines == ["tried first: composed"]
    assert trials[0].params != trials[1].params


def test_a_second_launch_before_the_first_trial_adds_nothing(tmp_path):
    config = composed(tmp_path)
    plan, study = plan_study(config), optuna.create_study()
    enqueue_known(study, plan.space, config, {"composed": config})
    sampled(plan, {"composed": config}, 0, study)
    assert len(study.trials) == 1


ENDS = {  # of the first trial, and of those after it, and which of all these try what was queued
    "a crash": ([Outcome.CRASHED, Outcome.CRASHED, Outcome.COMPLETE], [True, True, False]),
    "Ctrl-C": ([Outcome.INTERRUPTED] * 3, [True, True, True]),
    "both": ([Outcome.INTERRUPTED, Outcome.CRASHED, Outcome.INTERRUPTED, Outcome.CRASHED], [True] * 4 + [False]),
    "a result": ([Outcome.COMPLETE, Outcome.COMPLETE], [True, False]),
    "an error": ([Outcome.FAILED, Outcome.COMPLETE], [True, False]),
}


@pytest.mark.parametrize("way", ENDS)
def test_one_that_is_lost_through_no_fault_of_its_own_is_tried_again(way, tmp_path):
    config = composed(tmp_path)
    plan, study = plan_study(config), optuna.create_study()
    enqueue_known(study, plan.space, config, {"composed": config})
    ledger = Ledger(study, 9, Presence(study), nullcontext)
    outcomes, tried = ENDS[way]
    for outcome in [*outcomes, Outcome.COMPLETE][: len(tried)]:
        trial = ledger.claim("cpu", "a CPU", 42)
        plan.space.sample(trial, config)
        ledger.settle(trial, Verdict(outcome), [1.0] if outcome is Outcome.COMPLETE else [])
    assert ["known" in trial.user_attrs for trial in study.trials][: len(tried)] == tried
    rates = [trial.params["learning_rate"] for trial in study.trials[: len(tried)]]
    assert [rate == config.surrogate.learning_rate for rate in rates] == tried


def test_one_that_waits_anew_is_queued_within_a_claim():
    """A companion is asked for between a look at the queue and an ask, which would get it."""
    study, seen = optuna.create_study(), []

    @contextmanager
    def claiming():
        before = len(study.get_trials(states=[TrialState.WAITING]))
        yield
        seen.append(len(study.get_trials(states=[TrialState.WAITING])) - before)

    ledger = Ledger(study, 5, Presence(study), claiming)
    study.enqueue_trial({"hidden_size": 32})
    ledger.settle(ledger.claim("cpu", "a CPU", 42), Verdict(Outcome.CRASHED))
    assert seen == [-1, 1]


LEFT_OUT = {
    "surrogate.learning_rate=0.5 is outside 1e-05 .. 0.01, log": 0.5,
    "surrogate.activation=CELU is outside ReLU | Tanh": "CELU",
    "surrogate.hidden_size=24 is outside 16 .. 64, step 16": 24,
    "surrogate.eta_min=0.15 is outside 0 .. 0.5, step 0.1": 0.15,
    "trainer.batch_times=null is outside 1 .. 8": None,
}


@pytest.mark.parametrize("reason", LEFT_OUT)
def test_what_the_space_does_not_have_is_left_out_with_the_reason(reason, tmp_path):
    config = composed(tmp_path, "surrogate.activation=Tanh", "surrogate.hidden_size=48", "surrogate.eta_min=0.3")
    config.trainer.batch_times = 4
    config.search_space = {
        "learning_rate": {"low": 1e-5, "high": 1e-2, "log": True},
        "activation": {"choices": ["ReLU", "Tanh"]},
        "hidden_size": {"low": 16, "high": 64, "step": 16},
        "eta_min": {"low": 0, "high": 0.5, "step": 0.1},
        "trainer": {"batch_times": {"type": "int", "low": 1, "high": 8}},
    }
    plan, bad = plan_study(config), config.copy()
    OmegaConf.update(bad, reason.partition("=")[0], LEFT_OUT[reason])
    lines, trials = sampled(plan, {"bad": bad, "composed": config}, 1)
    assert lines == [f"not tried first: bad, {reason}", "tried first: composed"]
    assert trials[0].params["eta_min"] == 0.3 and trials[0].params["trainer.batch_times"] == 4


def test_a_grid_counts_a_known_point_as_tried(tmp_path):
    config = composed(tmp_path, "sampler=grid", "trials=6", "surrogate.hidden_size=32", "surrogate.activation=GELU")
    config.search_space = {"activation": {"choices": ["ReLU", "GELU"]}, "hidden_size": {"low": 31, "high": 33}}
    _, trials = sampled(plan_study(config), {"composed": config}, 6)
    assert trials[0].params == {"activation": "GELU", "hidden_size": 32}
    assert len({tuple(trial.params.values()) for trial in trials}) == 6


def test_a_study_starts_with_them_once(tmp_path, capsys):
    for trials in (1, 4):
        config = composed(tmp_path, f"trials={trials}", "pruner=none", "devices=[cpu,cpu]")
        off = composed(tmp_path, "surrogate.learning_rate=0.0003")
        run_study(config, RUNNERS + "quadratic", known={"composed": config, "optimal=off": off})
    rates = [trial.params["learning_rate"] for trial in study_in(tmp_path).trials]
    assert rates[:2] == [config.surrogate.learning_rate, 0.0003]
    assert len(set(rates)) == 4
    assert capsys.readouterr().out.count("tried first: optimal=off") == 1


@pytest.mark.parametrize("objective", ["accuracy", "dual"])
def test_no_pruner_stops_them(objective, tmp_path):
    config = composed(tmp_path, "trials=12", f"objective={objective}", "surrogate.learning_rate=1e-3")
    worse = {str(rate): composed(tmp_path, f"surrogate.learning_rate=0.00{rate}") for rate in range(2, 7)}
    run_study(config, RUNNERS + "equally_fast_in_steps", known={"composed": config, **worse})
    ended = [(outcome_of(trial), "known" in trial.user_attrs) for trial in study_in(tmp_path).trials]
    assert ended[:6] == [(Outcome.COMPLETE, True)] * 6
    assert (Outcome.PRUNED, False) in ended[6:]


@pytest.mark.slow
def test_tune_tries_what_was_composed_and_the_same_without_its_optimum(tmp_path):
    """Lotka and Volterra have a published optimum, here brought into the ranges."""
    settings = [*SMALL, "dataset=lotka_volterra", "surrogate.branch_hidden_layers=5", "surrogate.hidden_size=200"]
    ran = run_script("tune.py", *settings, "trials=2", "devices=[cpu]", folder=tmp_path)
    assert ran.returncode == 0, ran.stderr
    with (tmp_path / "outputs/tuned/lotka_volterra/MultiONet/trials.csv").open() as file:
        rows = list(csv.DictReader(file))
    tried = [(row["activation"], row["branch_hidden_layers"], float(row["learning_rate"])) for row in rows]
    assert tried == [("LeakyReLU", "5", 2.8e-05), ("GELU", "5", 3e-3)]
