"""Every shipped sampler and pruner: says all, works on every space, resumes, is refused where it cannot work."""

import inspect
import logging
from pathlib import Path

import numpy as np
import optuna
import pytest
from hydra.utils import get_class
from omegaconf import OmegaConf
from optuna._gp import batched_lbfgsb
from optuna.samplers import CmaEsSampler
from optuna.samplers._tpe import _truncnorm
from scipy import special

from codes.errors import UserError
from codes.storage.sqlite import open_file
from codes.tuning.ledger import outcome_of
from codes.tuning.objective import bracket_sizes, first_looks
from codes.tuning.outcomes import VALID, Outcome
from codes.tuning.plan import plan_study
from codes.tuning.samplers import reachable
from codes.tuning.study import run_study
from tests.tuning.studies import ROOT, RUNNERS, composed, study_in

SAMPLERS = sorted(path.stem for path in Path(ROOT, "conf/sampler").glob("*.yaml"))
MODELS = sorted(set(SAMPLERS) - {"accuracy", "dual", "grid"})
OTHERS = sorted({path.stem for path in Path(ROOT, "conf/surrogate").glob("*.yaml")} - {"LatentPoly"})
# What a YAML file leaves out: functions, and what Optuna 5 warns of because Optuna 6 has it no more.
FUNCTIONS = {"gamma", "weights", "constraints_func", "elite_population_selection_strategy"}
FUNCTIONS |= {"child_generation_strategy", "after_trial_strategy"}
DEPRECATED = {"consider_prior", "prior_weight", "consider_magic_clip", "consider_endpoints"}
DEPRECATED |= {"x0", "sigma0", "restart_strategy", "inc_popsize"}
GRID = {
    "optimizer": {"choices": ["adamw", "sgd"]},
    "momentum": {"low": 0.5, "high": 0.9, "step": 0.2, "when": "${eq:${surrogate.optimizer},sgd}"},
    "trunk_hidden_layers": {"low": 2, "high": 4},
}  # 3 points with adamw, 9 with sgd


def planned(folder, *overrides):
    return plan_study(composed(folder, *overrides, whole_space=True))


def with_space(folder, space, *overrides):
    config = composed(folder, *overrides)
    config.search_space = space
    return config


def proposals(plan, study, number):
    """Parameters of ``number`` further trials of a launch; the shorter the name of the activation, the better."""
    for _ in range(number):
        trial = study.ask()
        config = plan.space.sample(trial, plan.config)
        values = [
            config.surrogate.learning_rate + len(config.surrogate.activation),
            config.surrogate.regularization_factor,
        ]
        study.tell(trial, values[: len(study.directions)])
    return [trial.params for trial in study.trials]


@pytest.mark.parametrize("name", [*MODELS, "grid"])
def test_a_sampler_writes_out_every_argument(name):
    settings = OmegaConf.load(ROOT / "conf/sampler" / f"{name}.yaml")
    sampler = get_class(settings._target_)
    base = sampler.__mro__[1] if sampler.__mro__[1] is CmaEsSampler else sampler
    arguments = set(inspect.signature(base).parameters) - {"space", "config"}
    left_out = FUNCTIONS | DEPRECATED | ({"warn_independent_sampling"} if "tpe" in name else set())
    if name.startswith("tpe"):
        assert settings.constant_liar is True
    assert set(settings) - {"_target_"} == arguments - left_out


@pytest.mark.parametrize("surrogate", ["LatentPoly", *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)])
@pytest.mark.parametrize("name", MODELS)
def test_a_sampler_works_on_conditional_spaces_and_resumes(name, surrogate, tmp_path):
    plan = planned(tmp_path, f"surrogate={surrogate}", f"sampler={name}", "trials=40")
    study = optuna.create_study(sampler=plan.sampler(0), pruner=plan.pruner)
    first = proposals(plan, study, 12)
    study.sampler = plan.sampler(1)
    both = proposals(plan, study, 2)
    assert both[:12] == first
    assert not any(params in first[:2] for params in both[12:])


def test_what_the_gaussian_process_needs_is_installed():
    assert batched_lbfgsb._greenlet_imports.is_successful()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cmaes", "gp", "qmc"])
def test_a_sampler_runs_a_whole_study_and_goes_on(name, tmp_path):
    for trials in (12, 14):
        overrides = ["surrogate=LatentPoly", f"sampler={name}", "devices=[cpu,cpu]", f"trials={trials}"]
        config = composed(tmp_path, *overrides, whole_space=True)
        run_study(config, RUNNERS + "quadratic", prepare=lambda config: config.dataset.update(n_parameters=2))
    study = optuna.load_study(study_name="robertson_LatentPoly", storage=open_file(tmp_path / "study.db"))
    assert len(study.trials) == 14
    for trial in study.trials:
        assert outcome_of(trial) in (Outcome.COMPLETE, Outcome.PRUNED)
        assert ("momentum" in trial.params) == (trial.params["optimizer"] == "sgd")
        assert ("coeff_width" in trial.params) == trial.params["coeff_network"]


@pytest.mark.parametrize("name", MODELS)
def test_one_number_and_a_single_choice_are_enough(name, tmp_path):
    space = {"learning_rate": {"low": 1e-5, "high": 1e-2, "log": True}, "activation": {"choices": ["GELU"]}}
    plan = plan_study(with_space(tmp_path, space, f"sampler={name}"))
    study = optuna.create_study(sampler=plan.sampler(0))
    assert {params["activation"] for params in proposals(plan, study, 12)} == {"GELU"}
    assert len({trial.params["learning_rate"] for trial in study.trials}) >= 10


@pytest.mark.parametrize("name", sorted(set(MODELS) - {"cmaes"}))
def test_several_objectives(name, tmp_path):
    plan = plan_study(composed(tmp_path, "objective=dual", f"sampler={name}"))
    study = optuna.create_study(sampler=plan.sampler(0), directions=plan.objective.directions)
    assert len(proposals(plan, study, 12)) == 12


def test_cmaes_goes_on_when_a_condition_turns_false(tmp_path):
    deep = "${gt:${surrogate.trunk_hidden_layers},2}"
    space = {
        "trunk_hidden_layers": {"low": 1, "high": 4},
        "learning_rate": {"low": 1e-5, "high": 1e-2},
        "momentum": {"low": 0.5, "high": 0.9, "when": deep},
        "beta": {"low": 0.1, "high": 1.0, "when": True},
    }
    plan = plan_study(with_space(tmp_path, space, "sampler=cmaes"))
    study = optuna.create_study(sampler=plan.sampler(0))
    study.enqueue_trial({"trunk_hidden_layers": 4})
    proposals(plan, study, 20)
    generations = [trial.system_attrs.get("cmawm:generation") for trial in study.trials[1:]]
    assert generations == sorted(generations) and generations[-1] >= 2
    assert {"momentum" in trial.params for trial in study.trials} == {True, False}


def test_qmc_goes_on_where_its_sequence_was(tmp_path):
    plan = plan_study(composed(tmp_path, "sampler=qmc"))
    at_once = optuna.create_study(sampler=plan.sampler(0))
    resumed = optuna.create_study(sampler=plan.sampler(0))
    proposals(plan, resumed, 5)
    resumed.sampler = plan.sampler(1)
    assert proposals(plan, resumed, 4) == proposals(plan, at_once, 9)


def test_a_grid_has_no_copies_where_a_parameter_is_inactive(tmp_path):
    plan = plan_study(with_space(tmp_path, GRID, "sampler=grid"))
    points = list(reachable(plan.space, plan.config))
    adamw = [{"optimizer": "adamw", "trunk_hidden_layers": layers} for layers in (2, 3, 4)]
    assert [point for point in points if point["optimizer"] == "adamw"] == adamw
    sgd = {(point["momentum"], point["trunk_hidden_layers"]) for point in points if point["optimizer"] == "sgd"}
    assert sgd == {(momentum, layers) for momentum in (0.5, 0.7, 0.9) for layers in (2, 3, 4)}
    assert len(points) == 12


def test_a_grid_tries_what_failed_again_after_the_others_and_nothing_twice_at_once(tmp_path):
    plan = plan_study(with_space(tmp_path, GRID, "sampler=grid"))
    study = optuna.create_study(sampler=plan.sampler(0))
    known = {"optimizer": "adamw", "trunk_hidden_layers": 2}
    distributions = {each.name: each.distribution for each in plan.space if each.name in known}
    study.add_trial(
        optuna.trial.create_trial(params=known, distributions=distributions, values=[1.0])
    )  # a migrated one
    for fails in [True] * 11 + [False] * 11:
        trial = study.ask()
        plan.space.sample(trial, plan.config)
        if fails:
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
    points = [str(sorted(trial.params.items())) for trial in study.trials]
    assert len(set(points[:12])) == len({points[0], *points[12:]}) == 12


@pytest.mark.slow
def test_a_grid_is_covered_once_over_failures_slots_and_launches(tmp_path):
    for trials, devices in ((5, "[cpu]"), (12, "[cpu,cpu]")):
        config = with_space(tmp_path, GRID, "sampler=grid", "pruner=none", f"trials={trials}", f"devices={devices}")
        run_study(config, RUNNERS + "in_turn")
    trials = study_in(tmp_path).trials
    valid = [trial.params for trial in trials if outcome_of(trial) in VALID]
    assert len(trials) == 18
    assert len(valid) == 12 == len({str(sorted(params.items())) for params in valid})


def test_a_grid_says_after_the_data_that_it_is_too_small(tmp_path):
    """The product of all values is 18, of which conditions allow 12."""
    plan = plan_study(with_space(tmp_path, GRID, "sampler=grid", "trials=13"))
    with pytest.raises(UserError, match=r"trials: .* has 12, but got 13; set trials=12"):
        plan.sampler(0)


HUGE = {name: {"low": 1, "high": 100} for name in ("trunk_hidden_layers", "branch_hidden_layers", "hidden_size")}
REFUSED = {
    r"search_space.learning_rate: sampler=grid needs .* 1e-05 .. 0.01, log": ("sampler=grid", None),
    "sampler=grid tries no point twice and has 18, but got 20; set trials=18": ("sampler=grid trials=20", GRID),
    "at most 10,000 points": ("sampler=grid", HUGE),
    "CmaEsSampler needs a single objective": ("sampler=cmaes objective=dual", None),
    "cmaes needs a number": ("sampler=cmaes", {"optimizer": {"choices": ["adamw", "sgd"]}}),
    "trials: must be at least 1 but got 0": ("trials=0", None),
    "trainer.epochs=8, trainer.evaluate_every=10 and pruner.min_resource=8": ("trainer.epochs=8", None),
    "before the last epoch.*min_resource=100": ("pruner.min_resource=100", None),
    "but trials is 1; set pruner=none": ("trials=1", None),
}


@pytest.mark.parametrize("rule", REFUSED)
def test_what_cannot_work_is_refused(rule, tmp_path):
    overrides, space = REFUSED[rule]
    config = composed(tmp_path, *overrides.split())
    if space is not None:
        config.search_space = space
    with pytest.raises(UserError, match=rule):
        plan_study(config)


@pytest.mark.parametrize("overrides", ["trials=20", "trainer.epochs=8 pruner=none", "trials=1 pruner=none"])
def test_nothing_is_said_where_all_is_well(overrides, tmp_path, caplog):
    plan_study(composed(tmp_path, *overrides.split()))
    assert caplog.records == []


def test_a_budget_that_does_not_fill_the_brackets_and_a_slow_sampler_are_told(tmp_path, caplog):
    plan_study(composed(tmp_path, "trials=16"))
    plan_study(composed(tmp_path, "trials=101", "sampler=gp", "pruner=none"))
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2
    assert "9, 5, 3 of each 17 trials: trials=16" in caplog.text and "9 s at 1,000" in caplog.text


@pytest.mark.parametrize("epochs", [100, 243, 8192])
def test_brackets_are_those_that_optuna_makes(epochs, tmp_path):
    plan = planned(tmp_path, f"trainer.epochs={epochs}", "pruner.min_resource=10")
    assert bracket_sizes(plan.config.pruner) == plan.pruner._trial_allocation_budgets
    assert len(first_looks(plan.config.pruner)) == plan.pruner._n_brackets


def test_tpe_learns_from_all_brackets(tmp_path):
    """Optuna 5.0 splits by bracket what the pruner compares, not what samplers see: TPE models from trial 10 on."""
    plan = plan_study(composed(tmp_path, "trials=40"))
    study = optuna.create_study(sampler=plan.sampler(0), pruner=plan.pruner)
    proposals(plan, study, 12)
    modelled = [any("relative_params" in key for key in trial.system_attrs) for trial in study.trials]
    assert modelled == [False] * 10 + [True] * 2


@pytest.mark.parametrize(("surrogate", "trials", "population"), [("FullyConnected", 180, 36), ("LatentPoly", 270, 50)])
@pytest.mark.parametrize("left_out", ["trials=null", "~trials"])
def test_a_budget_left_out_is_fifteen_for_each_parameter(left_out, surrogate, trials, population, tmp_path):
    plan = planned(tmp_path, f"surrogate={surrogate}", left_out, "objective=dual", "sampler=nsgaii")
    assert (15 * len(plan.space), plan.config.trials) == (trials, trials)
    assert plan.config.sampler.population_size == population


@pytest.mark.parametrize("sampler", ["tpe", "tpe_multivariate"])
def test_tpe_proposes_the_same_with_scipys_logarithms_as_with_its_own(sampler, tmp_path, monkeypatch):
    def own(values):
        return np.frompyfunc(used.append(values) or _truncnorm._log_ndtr_single, 1, 1)(values).astype(float)

    used = []
    plan = planned(tmp_path, f"sampler={sampler}", "pruner=none", "trials=30")
    ours, theirs = optuna.create_study(sampler=plan.sampler(0)), optuna.create_study(sampler=plan.sampler(0))
    assert _truncnorm._log_ndtr is special.log_ndtr
    proposals(plan, ours, 30)
    monkeypatch.setattr(_truncnorm, "_log_ndtr", own)
    proposals(plan, theirs, 30)
    assert used and [list(trial.params) for trial in ours.trials] == [list(trial.params) for trial in theirs.trials]
    assert [trial.value for trial in ours.trials] == pytest.approx([trial.value for trial in theirs.trials], rel=1e-9)
