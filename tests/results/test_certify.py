"""What is measured again, and what may be said of it."""

import dataclasses
import random
import re
import signal
import subprocess
import sys

import optuna
import pytest

from codes.certify import main as certify_command
from codes.errors import UserError
from codes.results.certificate import PREFIX, TIMES, certified_trials, read_certificate
from codes.results.certify import FEWEST_ROUNDS, certify
from codes.results.opening import opened_study
from codes.results.statistics import median_interval, p_independent, p_paired, ratio_of_means, rejected
from codes.tuning.warm_start import KNOWN
from tests.command import ROOT, SMALL, run
from tests.results.test_select import DUAL, SINGLE, trials
from tests.tuning.studies import ELSEWHERE, entered, until


def test_statistics_of_known_samples():
    low, high = median_interval([1.0, 2, 3, 4, 5, 6, 7, 8, 9])
    assert 2 <= low < 5 < high <= 8
    assert median_interval([2.0] * 5) == (2.0, 2.0)
    # The median of a sample is at most k if 51 of 101 draws are; the binomial distribution has 2.5 % and 97.5 % there.
    assert median_interval(range(1, 102), resamples=20_000) == (41, 61)
    ratio, low, high = ratio_of_means([1.0, 1.1, 0.9], [2.0, 2.2, 1.8])
    assert low < ratio < high and ratio == pytest.approx(2)
    assert ratio_of_means([1.0, 1.0], [2.0, 2.0]) == (2.0, 2.0, 2.0)
    assert p_independent([1.0, 1.0], [1.0, 1.0]) == 1.0 and p_independent([1.0, 1.0], [2.0, 2.0]) == 0.0
    assert p_independent([1.0, 1.1, 0.9], [2.0, 2.2, 1.8]) < 0.01 < p_independent([1.0, 2, 3], [1.1, 2, 3])
    assert p_paired([1.0, 5, 9] * 4, [1.0, 5, 9] * 4) == 1.0
    slower = [1.01, 5.04, 9.03] * 4  # by a percent, between rounds that differ much more
    assert p_paired([1.0, 5, 9] * 4, slower) < 0.01 < p_independent([1.0, 5, 9] * 4, slower)


def test_holm_stops_at_the_first_that_stands():
    assert rejected({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005}) == {"a", "d"}  # the example of Holm's procedure
    assert rejected({"a": 0.04}) == {"a"}
    assert rejected({}) == set()


def certified(objective, points, spread, times=None):
    """Certificate of trials at ``points``: five trainings each, times that scatter by ``spread`` in the same rounds."""
    made = trials(*points, objective=objective)
    made[-1].set_user_attr(KNOWN, "the composed configuration")
    study = optuna.create_study(directions=["minimize"] * len(objective.metrics))
    draw = random.Random(0)
    for number, (error, _) in enumerate(points):
        for seed in range(5):
            score = {name: error * draw.uniform(1 - spread, 1 + spread) for name in ("lae99", "mlae")}
            study.set_user_attr(f"{PREFIX}{number}:{seed}", {"test": score, "val": score})
    rounds = [draw.uniform(1, 2) for _ in range(30)]
    seconds = {str(n): [time * r * draw.uniform(0.99, 1.01) for r in rounds] for n, (_, time) in enumerate(points)}
    study.set_user_attr(TIMES, {"seconds": seconds})
    return read_certificate(study, made, objective)


def test_which_points_of_a_front_differ():
    found = certified(DUAL, [(0.1, 9.0), (0.11, 3.0), (0.4, 1.0), (0.8, 0.999)], spread=0.2)
    verdicts = {(pair.one, pair.other): pair.verdict for pair in found.pairs}
    assert verdicts == {
        (0, 1): "differ in time only",
        (1, 2): "differ in both: a true trade-off",
        (2, 3): "differ in accuracy only",
    }
    assert found.start == 3 and "times that of the start" in " ".join(found.notes())
    *_, told = found.improvement()
    assert told.startswith("inference_time is ")
    numbers = [float(text) for text in re.findall(r"[\d.]+(?= times| to|\))", told)]
    assert numbers == pytest.approx([{0: 9.0, 1: 3.0, 2: 1.0, 3: 0.999}[found.chosen] / 0.999] * 3, rel=0.02)


def test_which_of_the_best_differ():
    found = certified(SINGLE, [(0.1, 1.0), (0.101, 1.0), (0.5, 1.0)], spread=0.1)
    assert [(pair.other, pair.verdict) for pair in found.pairs] == [(1, "cannot be told apart"), (2, "differ")]
    (line,) = [line for line in found.notes() if "where the study started" in line]
    assert line.startswith("Trial 0 against trial 2") and "on val is 0.2" in line


def test_a_study_that_found_nothing_better_says_so():
    found = certified(SINGLE, [(0.5, 1.0), (0.1, 1.0)], spread=0.1)  # the last one is the start
    assert "Trial 1, where the study started, is still the best" in " ".join(found.notes())


def test_a_front_that_new_seeds_turn_around():
    """The trial that looked more accurate had a lucky seed."""
    found = certified(DUAL, [(0.1, 9.0), (0.2, 1.0)], spread=0.01)
    for splits in found.accuracies[0].values():
        splits["test"]["lae99"] *= 4
    assert [pair.verdict for pair in found.pairs] == ["trial 1 is better in both"]


def test_what_is_shown_of_trials_of_which_not_everything_is_known():
    made = trials((0.1, 9.0), (0.2, 2.0), (0.4, 1.0))
    (start,) = trials((0.5, 1.0), outcome="pruned", first=3)
    start.set_user_attr(KNOWN, "the composed configuration")
    study = optuna.create_study(directions=["minimize"] * 2)
    scores = {
        "0:1": (0.3, 0.4),
        "0:2": (0.1, 0.2),
        "0:3": (0.2, 0.9),
        "1:1": (0.2, 0.3),
        "1:2": (0.4, 0.3),
        "2:1": (1, 2),
    }
    for name, (test, val) in scores.items():
        study.set_user_attr(f"{PREFIX}{name}", {"test": {"lae99": test}, "val": {"lae99": val}})
    study.set_user_attr(f"{PREFIX}1:3", {"failed": "diverged"})
    study.set_user_attr(TIMES, {"seconds": {"0": [0.002] * 9, "3": [0.05] * 9}, "warning": "others used the device"})
    found = read_certificate(study, [*made, start], DUAL)
    assert found.rows() == [
        ("0", "0.1", "0.2 (0.1-0.3)", "0.4 (0.2-0.9)", "3", "2 (2-2)"),
        ("1 (chosen)", "0.2", "0.3 (0.2-0.4)", "0.3 (0.3-0.3)", "2, 1 failed", "-"),
        ("2", "0.4", "1 (1-1)", "2 (2-2)", "1", "-"),
        ("3 (start)", "-", "-", "-", "0", "50 (50-50)"),
    ]
    assert [pair.verdict for pair in found.pairs] == ["not timed", "not enough trainings to compare"]
    assert found.notes()[-1] == "Beware: others used the device."


def test_what_is_certified():
    points = [(0.1, 9.0), (0.2, 2.0), (0.4, 1.0), (0.2, 3.0), (0.5, 8.5)]
    assert [trial.number for trial in certified_trials(trials(*points), DUAL, 1)] == [0, 1, 2]
    made = trials(*points, objective=SINGLE)
    made[4].set_user_attr(KNOWN, "the composed configuration")
    assert [trial.number for trial in certified_trials(made, SINGLE, 2)] == [0, 1, 4]


STUDY = ["surrogate=FullyConnected", "trials=3", "pruner=none", "search_space.hidden_size.high=32", *SMALL]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("certify")
    result = run("tune.py", *STUDY, "warm_start=false", folder=folder)
    assert result.returncode == 0, result.stderr
    return folder


def command(*words):
    return [sys.executable, "-m", "codes.certify", "surrogate=FullyConnected", *words]


def kept_seeds(folder):
    with opened_study([f"storage.path={folder}/outputs/tuned/robertson/study.db", "surrogate=FullyConnected"]) as kept:
        return [key for key in kept.study.user_attrs if key.startswith(PREFIX) and key != TIMES]


@pytest.mark.slow
def test_a_killed_certification_goes_on(folder):
    settings = {"cwd": folder, "env": {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}, "text": True}
    words = command("k=2", "seeds=[1,2]", "rounds=10")
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **settings) as first:
        until(lambda: kept_seeds(folder))
        first.send_signal(signal.SIGKILL)
    before = len(kept_seeds(folder))
    second = subprocess.run(words, capture_output=True, timeout=120, check=True, **settings)
    assert f"{4 - before} trainings" in second.stderr
    assert len(kept_seeds(folder)) == 4
    assert "val, new seeds" in second.stdout and "cannot be told apart" in second.stdout
    page = (folder / "outputs/tuned/robertson/FullyConnected/report.html").read_text()
    assert 'id="certified"' in page and "val, new seeds" in page


@pytest.mark.slow
def test_all_studies_of_a_tuning_id_side_by_side(folder, monkeypatch, capsys):
    def told(*words, **values):
        return certify_command({"k": None, "seeds": [3], "rounds": 10, "device": "cpu", **values}, words)

    monkeypatch.chdir(folder)
    with pytest.raises(UserError, match=r"fewer than two studies .*\(there are: robertson_FullyConnected\)"):
        told()
    other = run("tune.py", *SMALL, "surrogate=LatentPoly", "trials=1", "pruner=none", folder=folder)
    assert other.returncode == 0, other.stderr
    told()
    said = capsys.readouterr().err
    assert "2 trainings" in said and "robertson_LatentPoly from seed 3" in said
    again = told(seeds=[])
    assert "0 trainings" in capsys.readouterr().err
    page = (folder / "outputs/tuned/robertson/report.html").read_text()
    assert "Side by side" in page and "not enough trainings to compare" in page
    for text in (again, page):
        assert text.count("robertson_LatentPoly") > 1 and text.count("robertson_FullyConnected") > 1
    with pytest.raises(UserError, match="study robertson_MultiONet_fine is not in"):
        told("search_space=fine")
    with pytest.raises(UserError, match="k: is of one study; give surrogate= too, or leave it out"):
        told(k=2)


@pytest.mark.slow
def test_times_are_not_lost_where_no_model_is_left_to_be_timed(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(folder)
    settings = {"k": 1, "rounds": 10, "device": "cpu", "say": [].append}
    with opened_study(["surrogate=FullyConnected"]) as kept:
        certify(kept, seeds=[4], **settings)
        times = kept.study.user_attrs[TIMES]
        moved = dataclasses.replace(kept, folder=tmp_path)
        for seeds in ([4], []):
            with pytest.raises(UserError, match=f"no model of trial . of robertson_FullyConnected in {tmp_path}"):
                certify(moved, seeds=seeds, **settings)
        assert kept.study.user_attrs[TIMES] == times


@pytest.mark.slow
def test_a_coordinator_that_died_elsewhere_is_waited_for_only_once(folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setattr("codes.tuning.presence.GRACE", 1.0)
    said = []
    with opened_study(["surrogate=FullyConnected"]) as kept:
        dead = entered(kept.study, **ELSEWHERE)
        for _ in range(2):
            certify(kept, k=1, seeds=[], rounds=10, device="cpu", say=said.append)
    assert [text for text in said if "waiting" in text] == [f"waiting up to 1 s for a sign of life of {dead.name}"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": [1, 1]}, "seeds must be different integers"),
        ({"seeds": [-1]}, "seeds must be different integers"),
        ({"seeds": [42]}, "trial 0 of robertson_FullyConnected was chosen with 42"),
        ({"rounds": 3}, "rounds must be an integer of at least 10"),
        ({"device": "cuda:99"}, "'cuda:99' is not on this machine"),
    ],
)
def test_refused_before_anything_is_spent(folder, monkeypatch, changes, message):
    monkeypatch.chdir(folder)
    said = []
    with (
        opened_study(["surrogate=FullyConnected"]) as kept,
        pytest.raises(UserError, match=message),
    ):
        certify(kept, **{"k": 3, "seeds": [1], "rounds": 10, "device": "cpu", "say": said.append, **changes})
    assert not said


def test_the_fewest_rounds_are_told_before_they_are_asked_for():
    for page in ("docs/results.md", "codes/certify.py"):
        assert f"at least {FEWEST_ROUNDS})" in (ROOT / page).read_text()
