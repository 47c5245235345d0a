"""A study is opened as it was started, from where it is, and nothing is made that was not there."""

import shutil

import pytest
from omegaconf import OmegaConf

from codes import report
from codes.errors import UserError
from codes.results.opening import compose_tune, opened_study, split_arguments, split_config_dir
from codes.tuning.study import run_study
from tests.tuning.studies import RUNNERS, composed


@pytest.fixture
def finished(tmp_path):
    run_study(composed(tmp_path, "trials=3", "trainer.epochs=40", "sampler=random"), RUNNERS + "quadratic")
    return [f"storage.path={tmp_path}/study.db", f"output_dir={tmp_path}/out"]


@pytest.mark.parametrize("backend", ["sqlite", "journal"])
def test_a_study_is_as_it_was_started_wherever_it_lies_now(tmp_path, backend):
    started = composed(tmp_path, "trials=2", "trainer.epochs=40", "sampler=random", f"storage={backend}")
    run_study(started, RUNNERS + "quadratic")
    there = [f"storage={backend}", f"storage.path={tmp_path}/study.db", f"output_dir={tmp_path}/elsewhere"]
    with opened_study([*there, "trainer.epochs=7", "objective=dual"]) as kept:
        assert kept.name == "robertson_MultiONet" and len(kept.trials()) == 2
        assert kept.objective.metrics == ("lae99",) and kept.objective.epochs == kept.config.trainer.epochs == 40
        assert set(kept.config.search_space) == {"learning_rate"}
        assert OmegaConf.get_type(kept.config.surrogate).__name__ == "MultiONetConfig"
        assert kept.config.output_dir == str(kept.folder) == f"{tmp_path}/elsewhere"
        assert kept.config.storage.path == f"{tmp_path}/study.db"


def test_another_study_is_named_with_those_that_there_are(finished):
    message = r"other_MultiONet is not in .*; there are: robertson_MultiONet\."
    with pytest.raises(UserError, match=message), opened_study([*finished, "tuning_id=other"]):
        pass


def test_which_family_was_taken_is_said_where_there_are_others(finished, tmp_path, caplog):
    with opened_study(finished):
        assert not caplog.messages
    other = ["trials=1", "surrogate=LatentPoly", "pruner=none", f"output_dir={tmp_path}/other"]
    run_study(composed(tmp_path, *other), RUNNERS + "quadratic")
    caplog.clear()
    with opened_study([*finished, "surrogate=MultiONet"]):
        assert not caplog.messages
    with opened_study(finished) as kept:
        assert kept.name == "robertson_MultiONet"
    assert caplog.messages == ["study robertson_MultiONet is taken; there are others too: surrogate=LatentPoly"]


def test_the_family_that_there_is_is_named_where_the_default_one_has_no_study(tmp_path):
    run_study(composed(tmp_path, "trials=1", "surrogate=LatentPoly", "pruner=none"), RUNNERS + "quadratic")
    message = "robertson_MultiONet is not in .*; there are: robertson_LatentPoly. Give surrogate=LatentPoly, "
    with pytest.raises(UserError, match=message), opened_study([f"storage.path={tmp_path}/study.db"]):
        pass


def test_no_study_is_given_the_files_of_another(finished, tmp_path):
    other = ["trials=1", "surrogate=LatentPoly", "pruner=none", f"output_dir={tmp_path}/other"]
    run_study(composed(tmp_path, *other), RUNNERS + "quadratic")
    by_name = [*finished, "study_name=robertson_LatentPoly"]
    with opened_study(by_name) as kept:
        assert kept.name == "robertson_LatentPoly"
        assert kept.config.output_dir == str(kept.folder) == f"{tmp_path}/other"
    shutil.copy(tmp_path / "out/optuna_config.yaml", tmp_path / "other")
    message = "output_dir: .*/other is the folder of study robertson_MultiONet, not of robertson_LatentPoly; give that"
    with pytest.raises(UserError, match=message), opened_study(by_name):
        pass


NOTHING = {
    "storage.path: .* does not exist": ["storage.path={}/none.db"],
    "storage.path: .*journal does not exist": ["storage=journal", "storage.path={}/none.journal"],
    "storage.data_dir .* no server yet": ["storage=postgres", "storage.data_dir={}/server"],
    "storage.backend=memory keeps no study": ["storage=memory"],
    "storage.path: .* is empty": ["storage.path={}/empty.db"],
}


@pytest.mark.parametrize("message", NOTHING)
def test_what_is_not_there_is_said_and_not_made(message, tmp_path):
    (tmp_path / "empty.db").touch()
    with pytest.raises(UserError, match=message), opened_study([text.format(tmp_path) for text in NOTHING[message]]):
        pass
    assert {path.name for path in tmp_path.iterdir()} == {"empty.db"} and not (tmp_path / "empty.db").stat().st_size


def test_reading_leaves_nothing_in_the_folder(finished, tmp_path):
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    with opened_study(finished) as kept:
        assert kept.study.best_trial.values
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}.items() <= before.items()


def test_a_fine_study_that_is_not_there_is_not_reported_as_all(finished):
    with pytest.raises(UserError, match="robertson_MultiONet_fine is not in"):
        report.main({}, [*finished, "search_space=fine"])


def test_own_keys_and_overrides_are_told_apart():
    arguments = ["pick=fastest_within=0.05", "k=3", "seeds=[1,2]", "surrogate=LatentPoly", "~search_space.momentum"]
    own, rest = split_arguments(arguments, {"pick": "knee", "k": 5, "seeds": [], "other": None})
    assert own == {"pick": "fastest_within=0.05", "k": 3, "seeds": [1, 2], "other": None}
    assert rest == ["surrogate=LatentPoly", "~search_space.momentum"]


@pytest.mark.parametrize("flag", ["--config-dir {}", "-cd {}", "--config-dir={}"])
def test_a_config_folder_of_the_user_counts(flag, tmp_path):
    (tmp_path / "dataset").mkdir()
    (tmp_path / "dataset/mine.yaml").write_text("name: mine\n")
    arguments = flag.format(tmp_path).split()
    assert compose_tune([*arguments, "dataset=mine"]).study_name == "mine_MultiONet"
    assert split_config_dir(["a=1", *arguments, "b=2"]) == (tmp_path, ["a=1", "b=2"])
    with pytest.raises(UserError, match="nowhere is not a folder; make it first"):
        split_config_dir(flag.format(tmp_path / "nowhere").split())
