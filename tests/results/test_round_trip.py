"""Explore, promote, fine, promote, train, replay: as commands, with real trainings, defaults in a folder of its own."""

import csv
import re
import shlex
import shutil

import numpy as np
import pytest
import torch
import yaml
from omegaconf import OmegaConf

import codes
import train
from codes import training
from codes.data import locate, read_dataset
from codes.errors import UserError
from codes.results import scores
from codes.results.opening import opened_study
from codes.results.promote import promote
from codes.results.replay import exactness, trial_config
from codes.results.scores import VAL, held_out, worst_quantities
from codes.results.select import select
from codes.tuning.ledger import record_of
from tests import command
from tests.command import ROOT, run

DATASET = """\
defaults:
  - /base/dataset@_here_
  - _self_
name: tiny
source: generate
generate: {system: robertson, n_train: 12, n_test: 4, n_val: 4, seed: 42}
log10_transform: true
"""
SHORT = ["surrogate=FullyConnected", "dataset=tiny", "trainer.epochs=3", "trainer.evaluate_every=1", "pruner=none"]
SHORT += ["trainer.latency_repeats=2", "search_space.hidden_size.high=32"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a dataset config of its own and a study on it."""
    folder = tmp_path_factory.mktemp("round_trip")
    (folder / "mine/dataset").mkdir(parents=True)
    (folder / "mine/dataset/tiny.yaml").write_text(DATASET)
    script(folder, "tune.py", *SHORT, "trials=3")
    return folder


def script(folder, name, *arguments):
    result = run(name, "--config-dir", "mine", *arguments, folder=folder, CODES_DATA_DIR=str(folder / "data"))
    assert result.returncode == 0, result.stderr
    return result.stdout


def module(folder, name, *arguments):
    data = str(folder / "data")
    return command.module(f"codes.{name}", "--config-dir", "mine", *arguments, folder=folder, CODES_DATA_DIR=data)


def trained(folder, name):
    return yaml.safe_load((folder / f"outputs/trained/{name}/FullyConnected/metrics.yaml").read_text())


@pytest.mark.slow
def test_explore_promote_fine_promote_train(folder):
    study = ["surrogate=FullyConnected", "dataset=tiny"]
    first = module(folder, "promote", *study)
    assert first.returncode == 0, first.stderr
    path = folder / "mine/optimal/tiny/FullyConnected.yaml"
    explored = yaml.safe_load(path.read_text())["surrogate"]
    assert "surrogate.hidden_size" in first.stdout and "val, seen by no choice" in first.stdout
    ended = script(folder, "tune.py", *SHORT[:-1], "search_space=fine", "trials=3", "fine.parameters=[learning_rate]")
    printed = (ended + first.stdout).replace("\\\n", "")
    suggested = [line.partition("#")[0] for line in printed.splitlines() if line.startswith("  python ")]
    assert len(suggested) == 5
    for line in suggested[1], suggested[3], suggested[4]:  # they know the dataset, which is in a folder of its own
        _, *words = shlex.split(line)
        assert words[0] == str(ROOT / "train.py"), line  # not in this folder
        assert run(*words, "trainer.epochs=1", folder=folder).returncode == 0
    measured = module(folder, "certify", *study, "search_space=fine", "k=1", "seeds=[1,2]", "rounds=10")
    assert measured.returncode == 0, measured.stderr
    assert "times that of the start" in measured.stdout or "(chosen, start)" in measured.stdout
    again = module(folder, "promote", *study, "search_space=fine")
    assert again.returncode == 0, again.stderr
    refined = yaml.safe_load(path.read_text())["surrogate"]
    changed = {name for name in explored if explored[name] != refined[name]}
    assert changed <= {"learning_rate"}
    (backup,) = path.parent.glob("*.bak-*")
    assert yaml.safe_load(backup.read_text())["surrogate"] == explored
    came_to = re.findall("^# ((?:test|val): .*)", backup.read_text(), re.MULTILINE)
    assert len(came_to) == 2 and all(f"  before, {line}\n" in again.stdout for line in came_to)

    script(folder, "train.py", *study, *SHORT[2:4], SHORT[5])
    used = yaml.safe_load((folder / "outputs/trained/tiny/FullyConnected/config.yaml").read_text())["surrogate"]
    assert {name: used[name] for name in refined} == refined
    script(folder, "train.py", *study, *SHORT[2:4], SHORT[5], "optimal=off", "training_id=off")
    used = yaml.safe_load((folder / "outputs/trained/off/FullyConnected/config.yaml").read_text())["surrogate"]
    assert used["learning_rate"] == 3e-3


@pytest.mark.slow
def test_a_trial_is_repeated_bit_for_bit(folder):
    with (folder / "outputs/tuned/tiny/FullyConnected/trials.csv").open() as file:
        values = {row["number"]: float(row["lae99"]) for row in csv.DictReader(file) if row["lae99"]}
    number = min(values, key=values.get)
    written = module(folder, "replay", "surrogate=FullyConnected", "dataset=tiny", f"trial={number}")
    assert written.returncode == 0, written.stderr
    path, command = written.stdout.splitlines()
    within = "pick=most_accurate_within=1e9"
    assert module(folder, "replay", "surrogate=FullyConnected", "dataset=tiny", within).stdout == written.stdout
    both = module(folder, "replay", "surrogate=FullyConnected", "dataset=tiny", within, "trial=0")
    assert both.returncode == 1 and "trial=0 and pick=most_accurate_within=1e9 both choose" in both.stderr
    best = (folder / path).with_name("best.yaml")  # which tune.py has written
    assert best.read_text() == (folder / path).read_text() and f"--config-name trial_{number}" in command
    words = shlex.split(command.replace(f"trial_{number}", "best"))
    assert words[:2] == ["python", str(ROOT / "train.py")]
    result = run("train.py", *words[2:], folder=folder, CODES_DATA_DIR=str(folder / "data"))
    assert result.returncode == 0, result.stderr
    assert trained(folder, f"tiny_FullyConnected_{number}")["test"]["lae99"] == values[number]


@pytest.mark.slow
def test_a_model_that_is_damaged_or_gone_is_made_again_as_the_message_says(folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setenv("CODES_DATA_DIR", str(folder / "data"))
    where = ["surrogate=FullyConnected", "dataset=tiny"]
    with opened_study(["--config-dir", "mine", *where]) as kept:
        trial = next(trial for trial in kept.trials() if f"{VAL}{trial.number}" not in kept.study.user_attrs)
        model = kept.folder / "models" / str(trial.number)
        again = f"train it again from what python -m codes.replay trial={trial.number} writes, and put config.yaml and "
        (model / "model.safetensors").write_bytes(b"")
        with pytest.raises(UserError, match=f"its checksum differs; copy both files again; or {again}.* into {model}"):
            held_out(kept, trial)
        assert f"again; or {again}" in module(folder, "certify", *where, "seeds=[]", "rounds=10").stderr
        shutil.rmtree(model)
        with pytest.raises(UserError, match=f"has no model in .*; {again}.* into {model}"):
            held_out(kept, trial)
        _, line = module(folder, "replay", *where, f"trial={trial.number}").stdout.splitlines()
        run("train.py", *shlex.split(line)[2:], folder=folder, CODES_DATA_DIR=str(folder / "data"))
        made = folder / f"outputs/trained/tiny_FullyConnected_{trial.number}/FullyConnected"
        model.mkdir()
        for name in ("config.yaml", "model.safetensors"):
            shutil.copy(made / name, model)
        monkeypatch.setattr(scores, "FEW", 2)
        assert held_out(kept, trial) == trained(folder, made.parent.name)["val"]
        errors = list(worst_quantities(kept, trial).values())
        assert len(errors) == 2 and errors == sorted(errors, reverse=True)
        shutil.rmtree(model)  # from now on the study has its score
        assert held_out(kept, trial) == trained(folder, made.parent.name)["val"]


@pytest.mark.slow
def test_a_model_is_not_scored_on_data_that_are_scaled_in_another_way(folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setenv("CODES_DATA_DIR", str(folder / "data"))
    with opened_study(["--config-dir", "mine", "surrogate=FullyConnected", "dataset=tiny"]) as kept:
        trial = next(trial for trial in kept.trials() if f"{VAL}{trial.number}" not in kept.study.user_attrs)
        kept.config.dataset.generate.seed = 43
        with pytest.raises(UserError, match=f"dataset tiny: .* no longer those of trial {trial.number}"):
            held_out(kept, trial)
        assert not worst_quantities(kept, trial) and f"{VAL}{trial.number}" not in kept.study.user_attrs


@pytest.mark.slow
def test_a_page_names_the_quantities_in_which_the_chosen_trial_is_worst(folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setenv("CODES_DATA_DIR", str(folder / "data"))
    with opened_study(["--config-dir", "mine", "surrogate=FullyConnected", "dataset=tiny"]) as kept:
        chosen = select(kept.study)
        data = read_dataset(locate(OmegaConf.to_object(kept.config.dataset)))
        kept_errors = worst_quantities(kept, chosen)
    predicted = codes.load(kept.folder / "models" / str(chosen.number)).predict(
        data.val.trajectories[:, 0], data.timesteps
    )
    errors = np.percentile(np.abs(np.log10(predicted / data.val.trajectories)), 99, (0, 1))
    expected = dict(sorted(zip(data.labels, errors, strict=True), key=lambda entry: -entry[1]))
    assert list(kept_errors) == list(expected) and kept_errors == pytest.approx(expected, rel=1e-3)
    told = ", ".join(f"{label} {error:.3g} dex" for label, error in kept_errors.items())
    page = (kept.folder / "report.html").read_text()
    assert f"Quantities with the largest lae99 on val: {told}." in page
    mean = np.log10(data.train.trajectories).mean(0)
    error = np.percentile(np.abs(mean - np.log10(data.val.trajectories)), 99)
    assert f"The mean training trajectory has {error:.3g} dex on val" in page


@pytest.mark.slow
def test_trials_that_trained_together_are_repeated_one_by_one_to_rounding(folder, monkeypatch):
    ended = script(folder, "tune.py", *SHORT, "trials=5", "slot.population=4", "tuning_id=together", "warm_start=false")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("CODES_DATA_DIR", str(folder / "data"))
    where = ["--config-dir", "mine", "surrogate=FullyConnected", "dataset=tiny", "tuning_id=together"]
    with opened_study(where) as kept:
        trials = kept.trials()
        kept.config.trainer.gradients = "float32"  # as by a harmless change since
        configs = [train.settings(trial_config(kept, trial)) for trial in trials]
    assert [config.trainer.gradients for config in configs] == [*["float32"] * 4, "auto"]  # stacks have no other
    assert [record_of(trial)["together"] for trial in trials] == [4, 4, 4, 4, 1]
    assert len({trial.params["hidden_size"] for trial in trials[:4]}) == 1
    assert [exactness(trial) for trial in trials] == [
        *["to the same accuracy but for rounding"] * 4,
        "to the same accuracy",
    ]
    best = min(trials, key=lambda trial: trial.value)
    assert f"train that trial again, {exactness(best)}, and" in ended
    for trial, config in zip(trials, configs, strict=True):
        result = training.train(config, *train.begin(config), progress=False)
        assert trial.values == [pytest.approx(result.metrics["lae99"], rel=1e-4)]
        model = codes.load(kept.folder / "models" / str(trial.number)).model
        torch.testing.assert_close(model.state_dict(), result.model.state_dict(), rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_what_defaults_could_not_say_is_refused(folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setenv("CODES_DATA_DIR", str(folder / "data"))
    where = ["--config-dir", "mine", "surrogate=FullyConnected", "dataset=tiny"]
    with opened_study(where) as kept:
        trial = select(kept.study)
        kept.config.dataset.normalise = "disable"
        with pytest.raises(UserError, match=r"dataset\.normalise=disable, which dataset=tiny does not say"):
            promote(kept, trial, folder / "mine")
        kept.config.dataset.name = "hdf5"
        with pytest.raises(UserError, match=rf"hdf5 is not one dataset: .*codes\.replay trial={trial.number} writes"):
            promote(kept, trial, folder / "mine")
