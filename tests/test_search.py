"""The benchmark of samplers and pruners: its scores on known answers, and two arms on real trainings."""

import json
import math

import numpy as np
import pytest

from benchmarks.search import studies
from benchmarks.search.analysis import Compared, Scorer, hypervolume
from benchmarks.search.problems import Problem
from benchmarks.search.studies import Setting, as_row, run_study
from benchmarks.search.table import Table, train_cell
from codes.tuning.outcomes import Outcome

PROBLEM = Problem("brusselator", "FullyConnected")


@pytest.mark.parametrize(
    ("points", "area"),
    [
        ([], 0.0),
        ([(1.0, 1.0)], 4.0),
        ([(2.0, 1.0), (1.0, 2.0)], 3.0),  # two squares of 2 that share one of 1
        ([(1.0, 2.0), (2.0, 1.0), (2.5, 2.5), (1.0, 2.0)], 3.0),  # a dominated one and a copy add nothing
        ([(4.0, 0.0), (0.0, 3.0)], 0.0),  # beyond the reference
        ([(-1.0, 2.0)], 4.0),
    ],
)
def test_a_hypervolume_is_the_area_that_is_dominated(points, area):
    assert hypervolume(points, (3.0, 3.0)) == area


def rising(*ends):
    """Scores of one problem that rise linearly from zero, a seed for each of ``ends``."""
    return np.array([[np.arange(1, 61) / 60 * end for end in ends]])


def test_a_difference_and_its_interval_are_those_of_pairs_of_seeds():
    same = Compared(rising(1.0, 2.0, 4.0) + 0.5, rising(1.0, 2.0, 4.0)).gain(59)
    assert (same.value, same.low, same.high) == pytest.approx((0.5, 0.5, 0.5))  # however much the seeds differ
    spread = Compared(rising(2.0, 0.0), rising(1.0, 1.0)).gain(59)
    assert (spread.value, spread.low, spread.high) == pytest.approx((0.0, -1.0, 1.0))


def test_the_reference_is_reached_when_the_mean_first_is():
    assert Compared(rising(4.0, 2.1), rising(1.0, 1.0)).time_to_reference().value == pytest.approx(1 / 3)
    assert math.isinf(Compared(rising(0.5, 0.9), rising(1.0, 1.0)).time_to_reference().value)


@pytest.fixture
def table(tmp_path, monkeypatch):
    """The trainings that a study is measured by; twelve of them are its budget."""
    monkeypatch.setenv("CODES_DATA_DIR", str(tmp_path))
    monkeypatch.setattr(studies, "CALIBRATED", 4)
    monkeypatch.setattr(studies, "BUDGET", 12 * studies.SECONDS)
    made = Table(tmp_path / "trainings")
    studies.calibrate(PROBLEM, made)
    return made


@pytest.mark.parametrize(("goal", "arm"), [("lae99", "TPE + Hyperband"), ("dual", "NSGA-II + halving")])
def test_a_study_of_real_trainings_is_pruned_kept_and_scored(table, goal, arm):
    setting = Setting(PROBLEM, goal, arm)
    steps = list(run_study(setting, 0, table))
    assert {Outcome.COMPLETE, Outcome.PRUNED} <= {step.outcome for step in steps}
    assert train_cell(PROBLEM, steps[-1].key).curve == table.get(PROBLEM, steps[-1].key).curve

    row = json.loads(json.dumps(as_row(setting, 0, steps, table)))
    scorer = Scorer(PROBLEM, Table(table.folder))
    ended = list(scorer.ended(row))
    assert [(trial.cell, trial.outcome) for trial in ended] == [(step.key[0], step.outcome) for step in steps]
    assert ended[-2].time < 1 <= ended[-1].time
    score = scorer.curve(row)
    assert (np.diff(score) >= 0).all() and score[-1] > score[0]
