"""Trials that a slot trains together."""

from contextlib import nullcontext

import optuna
import pytest
from omegaconf import OmegaConf

from codes.errors import UserError
from codes.tuning.changes import Class, changes
from codes.tuning.ledger import Ledger, outcome_of, record_of
from codes.tuning.outcomes import Outcome, Verdict
from codes.tuning.plan import plan_study
from codes.tuning.population import held_parameters
from codes.tuning.presence import Presence
from codes.tuning.study import run_study
from tests.tuning.studies import RUNNERS, composed, outcomes, study_in

SPACE = ("learning_rate", "optimizer", "momentum", "activation", "hidden_size")


def small(folder, *overrides, **options):
    """A study that tunes what members have of their own, and what they share."""
    config = composed(folder, "warm_start=false", *overrides, whole_space=True, **options)
    config.search_space = {name: config.search_space[name] for name in SPACE}
    return config


def groups(trials):
    """Trials by what they share, each group in one piece."""
    found = []
    for trial in trials:
        key = trial.params["hidden_size"], trial.params["activation"], record_of(trial)["together"]
        if not found or found[-1][0] != key:
            found.append((key, []))
        found[-1][1].append(trial)
    return [members for _, members in found]


def test_a_slot_trains_trials_together_that_share_what_fixes_the_network(tmp_path, capsys):
    config = small(tmp_path, "trials=11", "slot.population=4")
    run_study(config, RUNNERS + "quadratic", together=RUNNERS + "together")
    trials = study_in(tmp_path).trials
    ended = outcomes(tmp_path)
    assert ended.keys() <= {"complete", "pruned"} and sum(ended.values()) == 11
    assert [len(members) for members in groups(trials)] == [4, 4, 3]
    assert [record_of(trial)["together"] for trial in trials] == [4] * 8 + [3] * 3
    for members in groups(trials):
        assert len({trial.params["learning_rate"] for trial in members}) == len(members)
        epochs = {record_of(trial)["epoch"] for trial in members}
        assert epochs <= {*range(10, 101, 10)}
    assert any(outcome_of(trial) is Outcome.PRUNED for trial in trials), "each is pruned on its own"
    assert "up to 4 trials together" in capsys.readouterr().out


def test_slots_share_what_is_left(tmp_path):
    config = small(tmp_path, "trials=6", "slot.population=8", "devices=[cpu,cpu]", "pruner=none")
    run_study(config, RUNNERS + "quadratic", together=RUNNERS + "together")
    together = [record_of(trial)["together"] for trial in study_in(tmp_path).trials]
    assert outcomes(tmp_path) == {"complete": 6} and max(together) == 3


def test_known_configurations_train_as_they_are(tmp_path):
    config = small(tmp_path, "trials=6", "slot.population=4", "pruner=none")
    other = small(tmp_path, "surrogate.hidden_size=33")
    known = {"composed": config, "other": other}
    run_study(config, RUNNERS + "quadratic", together=RUNNERS + "together", known=known)
    trials = study_in(tmp_path).trials
    assert [record_of(trial)["together"] for trial in trials] == [1, 4, 4, 4, 4, 1]
    assert [trial.params["hidden_size"] for trial in trials[:5]] == [100, *[33] * 4]


@pytest.mark.parametrize(
    ("speed_up", "most"), [("three_times_as_fast", 8), ("not_faster", 1), ("cannot_be_measured", 1), (None, 1)]
)
def test_auto_trains_together_where_that_pays(speed_up, most, tmp_path, capsys):
    config = small(tmp_path, "trials=9", "slot.population=auto", "pruner=none")
    measure = speed_up and RUNNERS + speed_up
    run_study(config, RUNNERS + "quadratic", together=RUNNERS + "together", speed_up=measure)
    assert max(record_of(trial)["together"] for trial in study_in(tmp_path).trials) == most
    said = capsys.readouterr().out
    assert said.count("trials train one by one: its models cannot be stacked") == (speed_up == "cannot_be_measured")


def test_a_stack_that_does_not_fit_is_trained_one_by_one(tmp_path, capsys):
    config = small(tmp_path, "trials=4", "slot.population=4", "pruner=none", "max_invalid=0")
    run_study(config, RUNNERS + "quadratic", together=RUNNERS + "too_large_together")
    assert outcomes(tmp_path) == {"complete": 3, "diverged": 1}
    assert [record_of(trial)["together"] for trial in study_in(tmp_path).trials] == [4, 1, 1, 1]
    assert "4 trials together ran out of memory; the 3 that are left run one by one" in capsys.readouterr().out


def test_an_error_of_the_stack_is_that_of_each_trial(tmp_path):
    config = small(tmp_path, "trials=4", "slot.population=2", "max_invalid=1")
    with pytest.raises(UserError, match="hidden_size does not fit"):
        run_study(config, RUNNERS + "quadratic", together=RUNNERS + "failing_together")
    assert outcomes(tmp_path) == {"failed": 2}


@pytest.mark.parametrize("sampler", ["tpe", "tpe_multivariate", "nsgaii", "cmaes", "random", "qmc"])
def test_every_sampler_proposes_the_rest(sampler, tmp_path):
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    plan = plan_study(small(tmp_path, f"sampler={sampler}", "slot.population=3", "trials=60"))
    study = optuna.create_study(sampler=plan.sampler(0))
    ledger = Ledger(study, 60, Presence(study), nullcontext)
    assert plan.population.held == {"hidden_size", "activation"}
    for _ in range(5):
        first = ledger.claim("cpu", "A", 42)
        group = [(first, plan.space.sample(first, plan.config))]
        held = {name: value for name, value in first.params.items() if name in plan.population.held}
        for _ in range(2):
            other = ledger.claim("cpu", "A", 42, held)
            group.append((other, plan.space.sample(other, plan.config)))
        assert len({(config.surrogate.hidden_size, config.surrogate.activation) for _, config in group}) == 1
        assert len({config.surrogate.learning_rate for _, config in group}) > 1
        for number, (trial, _) in enumerate(group):
            ledger.settle(trial, Verdict(Outcome.COMPLETE), [number + trial.params["learning_rate"]])


def test_parents_of_what_is_held_are_held_too(tmp_path):
    config = small(tmp_path)
    config.search_space.hidden_size = {**config.search_space.hidden_size, "when": "${gt:${surrogate.momentum},0.7}"}
    plan = plan_study(config)
    assert held_parameters(plan.space, config) == {"hidden_size", "activation", "momentum", "optimizer"}


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        (["slot.population=0"], "at least 1, or auto, but got 0"),
        (["slot.population=many"], "or auto, but got 'many'"),
        (["slot.population=2", "objective.metrics=[train_time]", "pruner=none"], "train_time among the objectives"),
        (["slot.population=2", "sampler=gp"], "sampler=gp, which proposes whole points"),
        (["slot.population=2", "sampler=grid"], "activation would have to be held"),
    ],
)
def test_what_cannot_be_is_refused(overrides, problem, tmp_path):
    config = composed(tmp_path, *overrides, whole_space=True)
    config.search_space = {"activation": config.search_space.activation}
    with pytest.raises(UserError, match=problem):
        plan_study(config)
    if overrides[0] == "slot.population=2":
        config.slot.population = "auto"
        assert plan_study(config).population.most == 1


def test_a_trainer_of_one_training_at_a_time_is_refused(tmp_path):
    with pytest.raises(UserError, match="trains one at a time"):
        run_study(composed(tmp_path, "slot.population=2"), RUNNERS + "quadratic")
    assert not list(tmp_path.iterdir())


def test_another_population_is_a_compatible_change(tmp_path):
    stored, new = composed(tmp_path), composed(tmp_path, "slot.population=4")
    (change,) = changes(stored, new)
    assert change.kind is Class.COMPATIBLE and not change.affects_trials
    earlier = OmegaConf.create(OmegaConf.to_container(stored, resolve=False))
    del earlier["slot"]
    assert changes(earlier, stored) == [] and [str(change) for change in changes(earlier, new)] == [
        "slot.population 1 -> 4"
    ]
