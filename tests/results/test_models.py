"""Models on disk: those that can still be chosen, whole, whoever is killed."""

import csv

import pytest

from codes.tuning.models import PROMOTED, kept_model, worth_keeping
from codes.tuning.study import run_study
from tests.results.test_select import DUAL, SINGLE, trials
from tests.tuning.studies import RUNNERS, composed, launch, study_in, until

RUNNER = RUNNERS + "equally_fast"
PLAIN = ["trainer.epochs=40", "sampler=random", "pruner=none"]


def test_what_a_choice_can_fall_on():
    points = [(0.1, 9.0), (0.2, 2.0), (0.4, 1.0), (0.2, 3.0), (0.1, 8.5), (0.15, 9.0), (9, 9), (0.3, 2.0)]
    useless = trials((1e-9, 1e-9), outcome="diverged", first=9)
    assert worth_keeping([*trials(*points, objective=SINGLE), *useless], SINGLE, 3) == {0, 4, 5, 1, 2}
    assert worth_keeping(trials(*points), DUAL, 1) == {1, 2, 4}


def left(folder):
    return {int(path.name) for path in (folder / "out/models").iterdir() if path.name.isdigit()}


def best(folder, number):
    return {trial.number for trial in sorted(study_in(folder).trials, key=lambda trial: trial.value or 99)[:number]}


def test_the_best_and_the_promoted_stay(tmp_path):
    run_study(composed(tmp_path, "trials=4", "keep_models=null", *PLAIN), RUNNER)
    assert left(tmp_path) == {0, 1, 2, 3}
    worst = next(number for number in range(4) if number not in best(tmp_path, 3))
    study_in(tmp_path).set_user_attr(PROMOTED, [worst])
    run_study(composed(tmp_path, "trials=12", "keep_models=3", *PLAIN), RUNNER)
    assert left(tmp_path) == best(tmp_path, 3) | {worst}
    assert not list(tmp_path.glob("out/models/.*"))
    rows = list(csv.DictReader((tmp_path / "out/trials.csv").open()))
    assert {int(row["number"]) for row in rows if row["model"]} == left(tmp_path)
    assert all(row["model"] in ("", f"models/{row['number']}") for row in rows)


def test_what_a_kill_left_behind_goes(tmp_path):
    run_study(composed(tmp_path, "trials=3", *PLAIN), RUNNER)
    (tmp_path / "out/models/.1.0123.gone").mkdir()
    (tmp_path / "out/models/77").mkdir()  # of no trial that is known here: of another study, or just being made
    run_study(composed(tmp_path, "trials=4", "keep_models=1", *PLAIN), RUNNER)
    assert left(tmp_path) == best(tmp_path, 1) | {77}
    assert not list(tmp_path.glob("out/models/.*"))


def ended(folder):
    """Numbers of the trials that have ended."""
    if not (folder / "out/optuna_config.yaml").exists():
        return []
    return [trial.number for trial in study_in(folder).trials if trial.state.is_finished()]


@pytest.mark.slow
def test_every_model_is_whole_while_coordinators_share_the_study_and_one_is_killed(tmp_path):
    arguments = ["trials=60", "keep_models=2", *PLAIN]
    first, second = (launch(tmp_path, "equally_fast", *arguments) for _ in range(2))
    until(lambda: len(ended(tmp_path)) > 20)
    first.kill()
    first.communicate()
    while second.poll() is None:
        for number in ended(tmp_path):
            path = kept_model(tmp_path / "out", number)
            files = {file.name for file in path.iterdir()} if path else set()
            assert path is None or files == {"weights", "config"} or not path.exists()
    second.communicate()
    assert second.returncode == 0
    assert left(tmp_path) == best(tmp_path, 2)
