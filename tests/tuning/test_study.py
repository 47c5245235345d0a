"""Studies run by this process: budgets, outcomes, slots, resumes, refusals; for what ends one: test_endings.py."""

import copy
import csv
import re
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from codes.errors import UserError
from codes.storage.locks import claiming
from codes.tuning.fidelity import ConfigChanged
from codes.tuning.ledger import outcome_of, record_of
from codes.tuning.plan import plan_study
from codes.tuning.presence import PREFIX
from codes.tuning.study import run_study
from tests.tuning.studies import (
    ROOT,
    RUNNERS,
    composed,
    held_workers,
    hold,
    outcomes,
    release,
    run,
    study_in,
    until,
)


def test_a_study_prunes_saves_and_tells(tmp_path, capsys):
    typed = ["surrogate=MultiONet", "trials=12", "trainer.threads=1"]
    study = run(tmp_path, "quadratic", "trials=12", "keep_models=null", overrides=typed)
    found = outcomes(tmp_path)
    assert set(found) == {"complete", "pruned"} and sum(found.values()) == 12
    saved = {int(path.name) for path in (tmp_path / "out/models").iterdir()}
    assert saved == {trial.number for trial in study.trials if trial.state is TrialState.COMPLETE}
    with (tmp_path / "out/trials.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["seed"]) for row in rows] == [42 + number for number in range(12)]
    assert min(float(row["lae99"]) for row in rows if row["lae99"]) == study.best_value
    assert {bool(row["inference_time"]) for row in rows if row["outcome"] == "complete"} == {True}
    printed = capsys.readouterr().out
    assert all(len(line) < 100 for line in printed.replace(str(tmp_path), "").splitlines())
    assert "python tune.py surrogate=MultiONet trainer.threads=1 trials=24" in printed
    assert re.search(rf"^  learning_rate +{study.best_params['learning_rate']:.6g}$", printed, re.M)


def test_commands_to_go_on_with_have_what_the_study_keeps(tmp_path, capsys):
    run(tmp_path, "quadratic", "trials=2", "pruner=none")
    typed = ["trials=3", "trainer.epochs=50", "on_config_change=reuse"]
    run(tmp_path, "quadratic", "pruner=none", *typed, overrides=typed)
    told = capsys.readouterr().out.partition("trainer.epochs stays 100")[2]
    assert "python tune.py trainer.epochs=100" in told and "epochs=50" not in told


def test_every_outcome_has_its_state_and_only_valid_ones_count(tmp_path):
    study = run(tmp_path, "in_turn", "trials=5", "pruner=none")
    found = [(outcome_of(trial).value, trial.state.name) for trial in study.trials]
    assert found == [
        ("complete", "COMPLETE"),
        ("diverged", "PRUNED"),
        ("out_of_memory", "PRUNED"),
        ("crashed", "FAIL"),
        ("failed", "FAIL"),
        ("out_of_memory", "PRUNED"),
        ("diverged", "PRUNED"),
        ("failed", "FAIL"),
        ("crashed", "FAIL"),
        ("complete", "COMPLETE"),
        ("complete", "COMPLETE"),
    ]
    records = [record_of(trial) for trial in study.trials]
    assert "SIGKILL" in records[3]["reason"] and "exit code 3" in records[8]["reason"]
    assert records[4]["reason"] == "ValueError: hidden_size does not fit"
    assert "in_turn" in Path(records[4]["traceback"]).read_text()
    assert "no lae99" in records[7]["reason"]


def test_several_objectives_survive_a_diverged_trial(tmp_path):
    study = run(tmp_path, "in_turn", "objective=dual", "trials=8")
    assert {len(trial.values) for trial in study.best_trials} == {2}
    assert outcomes(tmp_path) == {"complete": 7, "diverged": 1, "out_of_memory": 2, "crashed": 2, "failed": 3}


def test_two_slots_are_two_processes_with_a_fair_share_of_threads(tmp_path):
    run(tmp_path, "meeting", "trials=7", "devices=[cpu,cpu]", "pruner=none")
    seen = [path.read_text().split() for path in tmp_path.glob("out/models/*/device")]
    assert len(seen) == 7 and {device for device, _, _ in seen} == {"cpu"}
    assert len({process for _, _, process in seen}) == 2
    assert len({threads for _, threads, _ in seen}) == 1


def test_more_trials_go_on_and_a_finished_study_says_so(tmp_path, capsys):
    first = run(tmp_path, "quadratic", "trials=3")
    proposals = [trial.params["learning_rate"] for trial in first.trials]
    again = run(tmp_path, "quadratic", "trials=6", "devices=[cpu,cpu]")
    assert len(again.trials) == 6
    assert len({trial.params["learning_rate"] for trial in again.trials}) == 6
    assert [trial.params["learning_rate"] for trial in again.trials][:3] == proposals
    capsys.readouterr()
    run(tmp_path, "misconfigured", "trials=6")
    printed = capsys.readouterr().out
    assert "is finished" in printed and "best trials" in printed


def test_same_seed_same_proposals(tmp_path):
    one, other = (run(tmp_path / name, "quadratic", "trials=12", "pruner=none") for name in ("one", "other"))
    assert [trial.params for trial in one.trials] == [trial.params for trial in other.trials]


def test_after_the_last_seed_comes_the_first(tmp_path):
    for trials in (1, 2):
        study = run(tmp_path, "quadratic", f"trials={trials}", "pruner=none", f"seed={2**32 - 1}")
    assert [record_of(trial)["seed"] for trial in study.trials] == [2**32 - 1, 0]


def test_data_that_cannot_be_had_leaves_no_study(tmp_path):
    def prepare(config):
        raise UserError("dataset.path: nowhere.h5 does not exist")

    with pytest.raises(UserError, match="nowhere"):
        run(tmp_path, "quadratic", prepare=prepare)
    assert list(tmp_path.iterdir()) == []


def test_conditions_and_trainings_see_what_the_data_says(tmp_path):
    def prepare(config):
        config.dataset.n_parameters = 2

    config = composed(tmp_path, "trials=2", whole_space=True)
    run_study(config, RUNNERS + "quadratic", prepare=prepare)
    assert all("params_branch" in trial.params for trial in study_in(tmp_path).trials)


def test_a_changed_config_is_refused_with_its_difference(tmp_path):
    run(tmp_path, "quadratic", "trials=2")
    with pytest.raises(ConfigChanged, match=r"trainer.epochs +100 +50") as caught:
        run(tmp_path, "quadratic", "trials=4", "trainer.epochs=50")
    assert caught.value.exit_code == 2
    assert len(study_in(tmp_path).trials) == 2


def test_a_config_may_change_until_the_first_trial(tmp_path):
    with pytest.raises(UserError, match="no slot is left"):
        run(tmp_path, "quadratic", warm_up=RUNNERS + "broken_warm_up")
    run(tmp_path, "quadratic", "trials=2", "trainer.epochs=50")


REFUSED = {
    "trials: must be at least 1 but got 0": ["trials=0"],
    "max_invalid: must be at least 0 but got -1": ["max_invalid=-1"],
    "deadline: must be at least 1 .* but got 1e-300": ["deadline=1e-300"],
    "deadline: must be .* at most 1000000000.0 but got 1e\\+300": ["deadline=1e300"],
    "loss_cap: must be greater than 0": ["loss_cap=-1"],
    "keep_models: must be at least 1": ["keep_models=0"],
    "timeout: must be greater than 0 but got 0": ["timeout=0"],
    "devices must have at least one entry": ["devices=[]"],
    "cuda:99": ["devices=[cpu,cuda:99]"],
    "device: a trial trains on the device of its slot, cpu, but got 'cuda:1'": ["device=cuda:1"],
    "needs a single objective": ["objective=dual", "pruner=hyperband"],
    "cannot follow inference_time": ["objective.metrics=[inference_time]"],
    "each once": ["objective.metrics=[mse,mse]"],
    "min_resource=0": ["pruner.min_resource=0"],
    "max_resource=5": ["pruner.max_resource=5"],
    "pruner.max_resource: must be an integer": ["pruner.max_resource=auto"],
    "unexpected keyword argument 'foo'": ["+sampler.foo=1"],
    "os.system": ["sampler._target_=os.system"],
    "sampler.seed: must be an integer but got 'x'": ["sampler.seed=x"],
    "sampler.n_ei_candidates: must be at least 1 but got 0": ["sampler.n_ei_candidates=0"],
    "sampler.popsize: must be at least 2 but got 1": ["sampler=cmaes", "sampler.popsize=1"],
    "sampler.independent_sampler.seed: must be an": ["sampler=qmc", "sampler.independent_sampler.seed=0.5"],
    "pruner.bootstrap_count: must be at least 0 but got -1": ["pruner.bootstrap_count=-1"],
}


@pytest.mark.parametrize("rule", REFUSED)
def test_what_cannot_work_is_refused_before_anything_is_written(rule, tmp_path):
    with pytest.raises(UserError, match=rule):
        run(tmp_path, "quadratic", *REFUSED[rule])
    assert list(tmp_path.iterdir()) == []


def test_slots_that_report_first_at_once_make_no_brackets_twice(tmp_path):
    plan = plan_study(composed(tmp_path, "pruner=hyperband", "trials=20"))
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for _ in range(50):
            study = optuna.create_study(pruner=copy.deepcopy(plan.pruner))
            trials = [study.ask() for _ in range(8)]
            for trial in trials:
                trial.report(1.0, plan.config.pruner.min_resource)
            with ThreadPoolExecutor(8) as threads:
                list(threads.map(optuna.Trial.should_prune, trials))
            list(map(optuna.Trial.should_prune, trials))
    finally:
        sys.setswitchinterval(before)


@pytest.mark.parametrize("sampler", ["tpe", "nsgaii", "random"])
@pytest.mark.parametrize("pruner", ["hyperband", "median", "none"])
def test_shipped_samplers_and_pruners_say_everything(sampler, pruner, tmp_path):
    plan = plan_study(composed(tmp_path, f"sampler={sampler}", f"pruner={pruner}", "trials=120"))
    assert type(plan.sampler(3)).__module__.startswith("optuna.samplers")
    assert type(plan.pruner).__module__.startswith("optuna.pruners")


@pytest.mark.parametrize(
    ("section", "name"),
    [(section, path.stem) for section in ("sampler", "pruner") for path in sorted((ROOT / "conf" / section).glob("*"))],
)
def test_arguments_of_another_type_are_refused_before_optuna_meets_them(section, name, tmp_path):
    from codes.tuning.plan import plan_study

    metrics = "objective.metrics=[mae,mse]" if name in ("dual", "pareto_halving") else "objective.metrics=[mae]"
    config = composed(tmp_path, metrics, "pruner=none", f"{section}={name}")
    for key in set(config[section]) - {"_target_"}:
        bad = copy.deepcopy(config)
        bad[section][key] = [1.5]
        with pytest.raises(UserError, match=rf"{section}\.{key}|'{key}'"):
            plan_study(bad)


def test_a_coordinator_lives_visibly_while_another_one_holds_the_claim(tmp_path, monkeypatch):
    """A claim is held for two minutes by a host that was cut off; meanwhile all that wait for it are alive."""
    monkeypatch.setattr("codes.tuning.coordinator.BEAT", 0.05)
    hold(tmp_path)
    seen = []

    def beats():
        (entry,) = (entry for name, entry in study_in(tmp_path).user_attrs.items() if name.startswith(PREFIX))
        return entry["beat"]

    def other():
        held_workers(tmp_path)
        try:
            with claiming(tmp_path / "study.db", "robertson_MultiONet"):
                first = beats()
                seen.append(until(lambda: beats() > first + 3, 20))
        finally:
            release(tmp_path)

    thread = threading.Thread(target=other)
    thread.start()
    run(tmp_path, "held_before_its_result", "trials=1", "pruner=none")
    thread.join()
    assert seen
