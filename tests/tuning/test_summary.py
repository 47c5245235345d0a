"""What is kept and shown of a study, without running one."""

import pytest

from codes.errors import UserError
from codes.tuning.fidelity import changes, check_config, keep_config
from codes.tuning.summary import resume_command
from codes.tuning.tables import table
from tests.tuning.studies import composed


def test_columns_are_aligned_and_long_cells_go_on_below():
    long = " ".join(["word"] * 12)
    assert table(("a", "b"), [("1", long), ("long one", "2")]).splitlines() == [
        "  a         b",
        "  1         word word word word word word word word word",
        "            word word word",
        "  long one  2",
    ]


def test_changes_name_keys_that_differ_are_new_or_are_gone():
    stored = {"trials": 20, "trainer": {"epochs": 100, "keep": "best"}, "seed": 1}
    now = {"trials": 40, "trainer": {"epochs": 50, "keep": "best", "resume": False}}
    assert changes(stored, now) == [
        ("trainer.epochs", "100", "50"),
        ("seed", "1", "-"),
        ("trainer.resume", "-", "False"),
    ]


def test_a_kept_config_is_the_same_config(tmp_path):
    config = composed(tmp_path, whole_space=True)
    keep_config(config, tmp_path)
    check_config(config, tmp_path)
    check_config(composed(tmp_path, "trials=99", "devices=[cpu,cpu]", whole_space=True), tmp_path)
    with pytest.raises(UserError, match=r"search_space.learning_rate.high +0.01 +0.1"):
        check_config(composed(tmp_path, "search_space.learning_rate.high=0.1", whole_space=True), tmp_path)
    (tmp_path / "optuna_config.yaml").unlink()
    with pytest.raises(UserError, match="missing"):
        check_config(config, tmp_path)


def test_the_command_to_go_on_replaces_the_budget_and_stays_narrow():
    overrides = ["surrogate=MultiONet", "trials=20", *(f"surrogate.key_{number}=0.123456789" for number in range(9))]
    command = resume_command(overrides, 40)
    assert "trials=20" not in command and command.endswith("trials=40")
    assert max(len(line) for line in command.splitlines()) < 100
    assert command.replace("\\\n", "").split()[:3] == ["python", "tune.py", "surrogate=MultiONet"]
