"""What is read before and after a study, without running one."""

import csv
import re
from contextlib import nullcontext
from dataclasses import replace

import optuna
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState, create_trial

from codes.metrics import seconds, with_unit
from codes.tuning.changes import quoted
from codes.tuning.ledger import Ledger
from codes.tuning.plan import plan_study
from codes.tuning.presence import Presence
from codes.tuning.summary import (
    as_settled,
    closing,
    next_commands,
    opening,
    readable,
    resume_command,
    study_row,
    write_trials,
)
from codes.tuning.tables import table
from tests.tuning.studies import composed

TIMES = {0.9996: "1 s", 0.9994e-3: "999 µs", 0.9996e-3: "1 ms", 0.012345: "12.3 ms", 0: "0 s", 4321: "4320 s"}


@pytest.mark.parametrize("value", TIMES)
def test_a_time_has_the_unit_that_it_has_when_rounded(value):
    assert seconds(value, 3) == TIMES[value]


@given(st.text("\\'\"a$,=[ ", max_size=6))
def test_a_quoted_text_is_what_hydra_reads(text):
    assert OverridesParser.create().parse_override(f"tuning_id={quoted(text)}").value() == text


CLAIM = {"coordinator": "host pid 7", "device": "cuda:0", "hardware": "H200", "seed": 42}
COLUMNS = "number,outcome,lae99,mlae,mae,mse,inference_time,train_time,n_parameters,learning_rate,"
COLUMNS += "duration,device,seed,reason,epoch,projected,peak_memory"


def ended(outcome, seconds, *values, rate=1e-3, **record):
    """A trial as the ledger leaves it; with values it is complete for Optuna, whatever its outcome."""
    return create_trial(
        state=TrialState.COMPLETE if values else TrialState.PRUNED,
        values=values or None,
        params={"learning_rate": rate},
        distributions={"learning_rate": FloatDistribution(1e-5, 1e-2, log=True)},
        user_attrs={"outcome": outcome, "claim": CLAIM, "record": {"duration": seconds, "reason": "", **record}},
    )


@pytest.fixture
def dual(tmp_path):
    """A plan for accuracy and inference time, and a ledger: a front of three, its knee trial 1; see the others."""
    plan = plan_study(composed(tmp_path, "objective=dual"))
    study = optuna.create_study(directions=["minimize", "minimize"])
    study.add_trials(
        [
            ended("complete", 3600, 0.01, 1.0, rate=1e-4, metrics={"n_parameters": 7, "mlae": 0.005, "spread": 0.1}),
            ended("complete", 1800, 0.02, 0.02, rate=2e-4),
            ended("complete", 900, 1.0, 0.01, rate=3e-4),
            ended("complete", 900, 2.0, 2.0),
            ended("time_pruned", 7200, 100.0, 1e-9, epoch=40, projected=18000.5, peak_memory=1024),
            ended("diverged", 0.2, reason="diverged: the loss is nan in epoch 3"),
        ]
    )
    return plan, Ledger(study, 5, Presence(study), nullcontext)


def test_a_front_has_its_knee_and_nothing_that_was_stopped(dual):
    plan, ledger = dual
    lines = [line.split() for line in closing(ledger, plan).splitlines()]
    start = lines.index(["Pareto", "front", "of", "3", "trials"])
    assert lines[start + 2 : start + 6] == [
        ["0", "0.01", "1", "s", "3600.0", "s"],
        ["1", "0.02", "20", "ms", "1800.0", "s", "knee"],
        ["2", "1", "10", "ms", "900.0", "s"],
        [],
    ]
    assert lines[start + 6 : start + 8] == [["trial", "1"], ["learning_rate", "0.0002"]]


def test_the_row_of_a_multirun_has_the_knee_and_the_size_of_its_front(dual):
    plan, ledger = dual
    assert study_row(ledger, plan)["best on test"] == "lae99 0.02, inference_time 20 ms, knee of 3"


def test_a_number_of_parameters_is_written_in_full():
    assert with_unit("n_parameters", 71259.0) == "71,259"


def test_where_the_time_went(dual):
    plan, ledger = dual
    lines = [line.split() for line in closing(ledger, plan).splitlines()]
    start = lines.index(["outcome", "trials", "time", "share"])
    assert lines[start + 1 : start + 5] == [
        ["complete", "4", "2:00:00", "50%"],
        ["diverged", "1", "0:00", "0%"],
        ["time_pruned", "1", "2:00:00", "50%"],
        ["in", "all", "6", "4:00:00"],
    ]


def test_the_table_of_trials(dual, tmp_path):
    plan, ledger = dual
    (tmp_path / "models" / "0").mkdir(parents=True)
    write_trials(tmp_path / "trials.csv", ledger.trials(), plan.objective)
    with (tmp_path / "trials.csv").open() as file:
        assert file.readline().strip() == f"{COLUMNS},together,hardware,coordinator,model"
        rows = list(csv.reader(file))
    assert ",".join(rows[0]) == "0,complete,0.01,0.005,,,1.0,,7.0,0.0001,3600,cuda:0,42,,,,,,H200,host pid 7,models/0"
    assert ",".join(rows[4]) == "4,time_pruned,,,,,,,,0.001,7200,cuda:0,42,,40,18000.5,1024,,H200,host pid 7,"
    assert rows[5][13] == "diverged: the loss is nan in epoch 3"


def test_without_a_result_there_is_none_to_show(dual):
    plan, ledger = dual
    study = optuna.create_study(directions=["minimize", "minimize"])
    study.add_trials([trial for trial in ledger.trials() if trial.user_attrs["outcome"] != "complete"])
    empty = Ledger(study, 5, ledger.presence, nullcontext)
    assert study_row(empty, plan)["best on test"] == "none"
    assert "front" not in closing(empty, plan) and "refine" not in next_commands(empty, plan, [])
    assert "refine around the knee of the front" in next_commands(ledger, plan, [])


def test_a_study_whose_trials_all_diverged_names_the_cause_and_suggests_no_more_of_them(dual):
    plan, ledger = dual
    study = optuna.create_study(directions=["minimize", "minimize"])
    reasons = ["the loss is nan in epoch 3", "the loss is inf in epoch 7"]
    study.add_trials([ended("time_pruned", 9), *(ended("diverged", 0.2, reason=reason) for reason in reasons)])
    lost = Ledger(study, 2, ledger.presence, nullcontext)
    assert "no trial is complete; 2 of 3 diverged, the first of them trial 1 (the loss is nan in epoch 3)" in closing(
        lost, plan
    )
    text = next_commands(lost, plan, ["seed=7"])
    assert "trials=" not in text and "on_config_change=overwrite" in text
    assert "no trial is complete" not in closing(ledger, plan)


def test_what_overwrote_a_study_is_not_suggested_again(dual):
    plan, ledger = dual
    text = next_commands(ledger, plan, ["seed=7", "on_config_change=overwrite"])
    assert text.count("seed=7") == 2 and "search_space=fine" in text and "on_config_change" not in text


def test_the_opening_says_where_ranges_come_from_and_when_they_count(tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    plan = plan_study(composed(tmp_path, "time_pruning=false", "devices=[cpu,cpu]", whole_space=True))
    mine = "command line (over experiment/mine.yaml, MultiONet.yaml, common.yaml)"
    text = opening(plan, 1, "a file", {"learning_rate": mine, "momentum": "common.yaml"})
    rows = {row.split()[0]: row.split()[1:] for row in text.splitlines() if row.strip()}
    assert rows["momentum"] == ["0.5", "..", "0.99", "common.yaml", "eq(optimizer,sgd)"]
    assert rows["hidden_size"] == ["16", "..", "256,", "log", "config"]
    assert rows["learning_rate"][:4] == ["1e-05", "..", "0.01,", "log"]
    assert rows["slots"][:2] == ["cpu,", "cpu"] and rows["storage"] == ["a", "file"]
    assert "time pruning  off" in text
    assert all(len(row) < 100 for row in text.splitlines())


def test_the_opening_says_what_is_to_be_beaten_where_that_is_known(tmp_path):
    plan = plan_study(composed(tmp_path))
    assert "to beat" not in opening(plan, 1, "a file", {})
    row = "to beat       lae99 1.783 on test, of the mean training trajectory\n"
    assert row in opening(replace(plan, to_beat="lae99 1.783"), 1, "a file", {})


def test_idle_cores_are_told_with_what_uses_them(tmp_path, monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {0, 1, 2, 3}, raising=False)
    for devices, threads, told in (("cpu", 1, True), ("cpu,cpu", 2, False), ("cpu", 4, False), ("cores", 1, False)):
        text = opening(plan_study(composed(tmp_path, f"devices=[{devices}]")), threads, "a file", {})
        assert ("; devices=[cores] uses all 4 cores, with a trial on each\n" in text) == told, devices


@pytest.mark.parametrize(("objective", "name"), [("accuracy", "Hyperband"), ("dual", "ParetoHalving")])
def test_a_pruner_sees_a_trial_when_it_is_evaluated(objective, name, tmp_path):
    epochs = ["trainer.epochs=100", "trainer.evaluate_every=7", f"objective={objective}"]
    text = opening(plan_study(composed(tmp_path, *epochs)), 1, "a file", {})
    assert re.search(rf"{name}.* at epoch 14, 35, 91 of 100\n", text)
    epochs[1] = "trainer.evaluate_every=40"
    text = opening(plan_study(composed(tmp_path, *epochs, "pruner.min_resource=9")), 1, "a file", {})
    assert re.search(rf"{name}.* at epoch 40 of 100\n", text)


def test_conditions_are_written_as_calls():
    assert readable(None) == "" and readable(True) == "true"
    assert readable("${surrogate.coeff_network}") == "coeff_network"
    assert readable("${gt:${dataset.n_parameters},0}") == "gt(dataset.n_parameters,0)"
    nested = "${and:${in:${surrogate.optimizer},[sgd,adamw]},${not:${surrogate.bias}}}"
    assert readable(nested) == "and(in(optimizer,[sgd,adamw]),not(bias))"


def test_columns_are_aligned_and_long_cells_go_on_below(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    long = " ".join(["word"] * 12)
    assert table(("a", "b"), [("1", long), ("long one", "2")]).splitlines() == [
        "  a         b",
        "  1         word word word word word word word word word",
        "            word word word",
        "  long one  2",
    ]


def test_wide_columns_give_way(monkeypatch):
    cells = ("name", " ".join(["word"] * 8), "a" * 30, " ".join(["word"] * 8))
    for columns, width, height in ((120, 98, 3), (80, 80, 3), (40, 50, 9)):
        monkeypatch.setenv("COLUMNS", str(columns))
        rows = table(("a", "b", "c", "d"), [cells]).splitlines()
        assert max(map(len, rows)) <= width and len(rows) == height
        assert "".join(rows).count("word") == 16


def test_what_stays_is_typed_so_that_hydra_reads_it():
    typed, stays = (OmegaConf.create({"dataset": {"path": path}}) for path in ("new.h5", "/run 1/a,b(2).h5"))
    (text,) = as_settled(["dataset.path=new.h5"], typed, stays)
    assert OverridesParser.create().parse_override(text).value() == "/run 1/a,b(2).h5"


def test_the_command_to_go_on_replaces_the_budget_and_stays_narrow():
    overrides = ["surrogate=MultiONet", "trials=20", *(f"surrogate.key_{number}=0.123456789" for number in range(9))]
    command = resume_command(overrides, trials=40)
    assert "trials=20" not in command and command.endswith("trials=40")
    assert max(len(line) for line in command.splitlines()) < 100
    assert command.replace("\\\n", "").split()[:3] == ["python", "tune.py", "surrogate=MultiONet"]
