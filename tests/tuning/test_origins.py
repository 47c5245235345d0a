"""Which file, or the command line, a range comes from."""

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig

from codes import resolvers, schema
from codes.tuning.entries import read_space
from codes.tuning.origins import composed_layers, origin_of, origins
from tests.command import ROOT, SMALL, run

MINE = """\
# @package _global_
defaults:
  - override /surrogate: LatentPoly
search_space:
  learning_rate: {high: 1e-3}
  trainer:
    batch_size: {choices: [64, 128]}
"""
OWN = "defaults: [common, _self_]\nlearning_rate: {low: 1e-4}\ndegree: {type: int, low: 1, high: 3}\n"


@pytest.fixture
def origin(tmp_path):
    """Origin of each tuned parameter in a composed study; ``files`` are put into a folder of the user's own."""

    def compose_with(*overrides, files=()):
        for path, text in dict(files).items():
            (tmp_path / path).parent.mkdir(exist_ok=True)
            (tmp_path / path).write_text(text)
        overrides = [f"hydra.searchpath=[file://{tmp_path}]", *overrides]
        schema.register()
        resolvers.register()
        with initialize_config_dir(str(ROOT / "conf")):
            config = compose("tune", overrides=overrides, return_hydra_config=True)
            HydraConfig.instance().set_config(config)
            known = origins(composed_layers())
        return {parameter.name: origin_of(parameter.name, known) for parameter in read_space(config)}

    yield compose_with
    HydraConfig.instance().cfg = None


def test_a_surrogates_own_entries_and_those_of_all(origin):
    found = origin("surrogate=MultiONet")
    assert found["hidden_size"] == "MultiONet.yaml"
    assert found["momentum"] == "common.yaml"
    assert set(found.values()) == {"MultiONet.yaml", "common.yaml"}


def test_the_command_line_has_the_last_word(origin):
    found = origin(
        "search_space.learning_rate.low=1e-4",
        "search_space.learning_rate.high=1e-3",
        "+search_space.trainer.batch_size.choices=[256,1024]",
        "~search_space.momentum",
    )
    assert found["learning_rate"] == "command line (over common.yaml)"
    assert found["trainer.batch_size"] == "command line"
    assert found["eta_min"] == "common.yaml" and "momentum" not in found


def test_an_experiment_of_the_user_goes_over_both(origin):
    files = {"experiment/mine.yaml": MINE, "search_space/own.yaml": OWN}
    found = origin("+experiment=mine", "search_space=own", "search_space.learning_rate.log=false", files=files)
    assert found["learning_rate"] == "command line (over experiment/mine.yaml, own.yaml, common.yaml)"
    assert found["degree"] == "own.yaml" and found["loss"] == "common.yaml"
    assert found["trainer.batch_size"] == "experiment/mine.yaml"


def test_a_computed_search_space_is_of_the_file_that_computes_it():
    known = origins([("common.yaml", {"a": {"low": 1}}), ("fine.yaml", "${fine_bounds:${known}}")])
    assert known == {"*": "fine.yaml"} and origin_of("a", known) == "fine.yaml"


def test_without_hydra_nothing_is_claimed():
    assert composed_layers() == [] and origin_of("learning_rate", origins([])) == "config"


@pytest.mark.slow
def test_a_study_opens_with_it_and_keeps_optunas_log_off_the_screen(tmp_path):
    ours = ["search_space.learning_rate.high=1e-3", "trials=2", "devices=[cpu]", "pruner=none"]
    done = run("tune.py", *SMALL, *ours, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    table = done.stdout.partition("tuned")[2].partition("trial 0")[0]
    rows = {row.split()[0]: " ".join(row.split()) for row in table.splitlines() if row.strip()}
    assert rows["learning_rate"] == "learning_rate 1e-05 .. 0.001, log command line (over"
    assert "common.yaml eq(optimizer,sgd)" in rows["momentum"]
    assert "2/2 valid" in done.stdout
    assert "[optuna" not in done.stdout + done.stderr and "A new study" not in done.stdout + done.stderr
    assert "[optuna." in next(tmp_path.rglob("tune.log")).read_text()
