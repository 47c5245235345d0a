"""Configs that are kept with a study and come from elsewhere."""

from contextlib import suppress

import pytest
from omegaconf.errors import OmegaConfBaseException

from codes.errors import UserError
from codes.tuning.changes import KEPT
from codes.tuning.study import run_study
from tests.tuning.studies import RUNNERS, composed, study_in

HOSTILE = {  # what stands in a stored config, and what an attacker writes instead
    "a tag of Python": ("seed: 42", "seed: !!python/object/apply:os.mkdir ['{made}']"),
    "a target": ("_target_: optuna.samplers.TPESampler", "_target_: tests.tuning.runners.mark\n  path: '{made}'"),
    "an argument": ("seed: 42", "seed:\n  _target_: tests.tuning.runners.mark\n  path: '{made}'"),
}


@pytest.mark.parametrize("policy", ["abort", "reuse"])
@pytest.mark.parametrize("way", HOSTILE)
def test_a_stored_config_from_elsewhere_runs_nothing(way, policy, tmp_path):
    run_study(composed(tmp_path, "trials=1", "pruner=none"), RUNNERS + "quadratic")
    study = study_in(tmp_path)
    honest, hostile = HOSTILE[way]
    text = study.user_attrs[KEPT]
    assert honest in text
    study.set_user_attr(KEPT, text.replace(honest, hostile.format(made=tmp_path / "made")))
    config = composed(tmp_path, "trials=2", "pruner=none", f"on_config_change={policy}")
    with suppress(UserError, OmegaConfBaseException):  # or what is stored is not used
        run_study(config, RUNNERS + "quadratic")
    assert not (tmp_path / "made").exists()


def test_a_study_from_before_gradients_could_be_coarse_goes_on_without_a_question(tmp_path, capsys):
    run_study(composed(tmp_path, "trials=1", "pruner=none"), RUNNERS + "quadratic")
    study = study_in(tmp_path)
    assert "  gradients: auto\n" in study.user_attrs[KEPT]
    study.set_user_attr(KEPT, study.user_attrs[KEPT].replace("  gradients: auto\n", ""))
    run_study(composed(tmp_path, "trials=2", "pruner=none", "on_config_change=abort"), RUNNERS + "quadratic")
    assert "trainer.gradients float32 -> auto" in capsys.readouterr().out


def test_a_range_is_kept_as_what_it_was_when_the_study_began(tmp_path, monkeypatch):
    """Not as the text that says where it comes from, which reads the same when that says something else."""
    study = ["trials=1", "pruner=none", "on_config_change=abort"]
    study.append('++search_space.learning_rate.high="${oc.decode:${oc.env:HIGH}}"')
    monkeypatch.setenv("HIGH", "0.01")
    run_study(composed(tmp_path, *study), RUNNERS + "quadratic")
    monkeypatch.setenv("HIGH", "0.02")
    with pytest.raises(UserError, match=r"search_space\.learning_rate\.high *0\.01 *0\.02 "):
        run_study(composed(tmp_path, *study), RUNNERS + "quadratic")
