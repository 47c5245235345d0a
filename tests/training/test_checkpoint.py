"""Checkpoints, and trainings that go on after they were killed."""

import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from codes.data import prepare
from codes.errors import StopTraining, UserError
from codes.surrogates import products
from codes.training import train
from codes.training.checkpoint import CHECKPOINT, load_checkpoint, save_checkpoint
from tests import command
from tests.training import example
from tests.training.child import digest

ROOT = Path(__file__).parents[2]
KINDS = [
    ("MultiONet", "adamw", "schedulefree", "best"),
    ("MultiONet", "sgd", "schedulefree", "last"),
    ("FullyConnected", "adamw", "cosine", "best"),
    ("FullyConnected", "sgd", "poly", "last"),
    ("LatentPoly", "sgd", "cosine", "best"),
    ("LatentNeuralODE", "adamw", "poly", "best"),
]


def stop_at(last):
    def report(epoch, metrics):
        if epoch == last:
            raise StopTraining("enough")

    return report


def run(config, folder, report=None):
    return train(config, example.data(), "cpu", report, folder=folder, progress=False)


def test_a_state_comes_back_as_it_was(tmp_path):
    tensor = torch.arange(6.0).view(2, 3)
    state = {"a": [1, {"b": tensor, "c": None}], "d": 0.1, "e": "text", "f": [tensor[0], float("inf")], "g": {}}
    save_checkpoint(tmp_path / "state", state)
    loaded = load_checkpoint(tmp_path / "state")
    assert torch.equal(loaded["a"][1].pop("b"), tensor)
    assert torch.equal(loaded["f"].pop(0), tensor[0])
    assert loaded == {"a": [1, {"c": None}], "d": 0.1, "e": "text", "f": [float("inf")], "g": {}}
    assert [path.name for path in tmp_path.iterdir()] == ["state"]


@pytest.mark.parametrize(("surrogate", "optimizer", "scheduler", "keep"), KINDS)
def test_an_interrupted_training_ends_as_if_it_had_not_been(surrogate, optimizer, scheduler, keep, tmp_path):
    overrides = [f"surrogate.optimizer={optimizer}", f"surrogate.scheduler={scheduler}", f"trainer.keep={keep}"]
    often = ["trainer.epochs=6", "trainer.evaluate_every=1", "trainer.checkpoint_every=2"]
    config = example.config(surrogate, *overrides, *often)
    whole = run(config, tmp_path / "whole")
    with pytest.raises(StopTraining):
        run(config, tmp_path / "cut", stop_at(5))
    resumed = replace(config, trainer=replace(config.trainer, resume=True))
    epochs = []
    result = run(resumed, tmp_path / "cut", lambda epoch, metrics: epochs.append(epoch))
    assert epochs == [5, 6]
    assert digest(result) == digest(whole)
    assert [row["seconds"] for row in result.history] == sorted(row["seconds"] for row in result.history)


@pytest.mark.parametrize("last", [3, 7])  # before and after the last coarse gradient
def test_an_interrupted_training_with_coarse_gradients_ends_as_if_it_had_not_been(last, tmp_path, monkeypatch):
    monkeypatch.setattr(products, "HAS_BFLOAT16", True)
    often = ["trainer.epochs=8", "trainer.evaluate_every=1", "trainer.checkpoint_every=1"]
    config = example.config("FullyConnected", "surrogate.hidden_size=160", "trainer.batch_size=504", *often)
    whole = run(config, tmp_path / "whole")
    with pytest.raises(StopTraining):
        run(config, tmp_path / "cut", stop_at(last))
    resumed = replace(config, trainer=replace(config.trainer, resume=True))
    assert digest(run(resumed, tmp_path / "cut")) == digest(whole)


@pytest.mark.parametrize("scheduler", ["schedulefree", pytest.param("cosine", marks=pytest.mark.slow)])
def test_a_killed_training_ends_as_if_it_had_not_been(scheduler, tmp_path):
    overrides = ["trainer.epochs=70", "trainer.evaluate_every=1", "trainer.checkpoint_every=7"]
    overrides += ["trainer.batch_size=256", f"surrogate.scheduler={scheduler}"]
    given = ["tests.training.child", str(tmp_path), "MultiONet", *overrides]
    with command.start("-m", *given, folder=ROOT) as child:
        while child.stdout.readline() != "epoch 20\n":
            assert child.poll() is None
        child.send_signal(signal.SIGKILL)
    assert child.returncode == -signal.SIGKILL
    assert load_checkpoint(tmp_path / CHECKPOINT)["epoch"] >= 14
    resumed = command.module(*given, "trainer.resume=true", folder=ROOT)
    assert resumed.returncode == 0, resumed.stderr
    said = resumed.stdout.splitlines()
    assert int(said[0].split()[1]) >= 15
    whole = run(example.config("MultiONet", *overrides), tmp_path / "whole")
    assert said[-1] == f"digest {digest(whole)}"


def test_without_a_checkpoint_it_starts_from_scratch_and_says_so(tmp_path, caplog):
    config = example.config("MultiONet", "trainer.resume=true")
    with caplog.at_level("INFO", "codes.training"):
        result = run(config, tmp_path)
    assert "starts from scratch" in caplog.text
    assert digest(result) == digest(run(example.config(), tmp_path))


def test_a_finished_training_can_be_resumed(tmp_path):
    config = example.config("MultiONet", "trainer.checkpoint_every=4")
    first = run(config, tmp_path)
    resumed = replace(config, trainer=replace(config.trainer, resume=True))
    assert digest(run(resumed, tmp_path, pytest.fail)) == digest(first)


def test_without_resume_an_old_checkpoint_is_removed(tmp_path):
    run(example.config("MultiONet", "trainer.checkpoint_every=4"), tmp_path)
    with pytest.raises(StopTraining):
        run(example.config("MultiONet", "trainer.checkpoint_every=4"), tmp_path, stop_at(2))
    assert not (tmp_path / CHECKPOINT).exists()


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("surrogate.hidden_size=17", "surrogate.hidden_size (was 16, is 17)"),
        ("trainer.epochs=5", "trainer.epochs (was 4, is 5)"),
        ("seed=1", "seed (was 42, is 1)"),
        ("dataset.tolerance=0.1", "dataset.tolerance (was None, is 0.1)"),
    ],
)
def test_another_config_is_refused(override, key, tmp_path):
    run(example.config("MultiONet", "trainer.checkpoint_every=2"), tmp_path)
    with pytest.raises(UserError) as refused:
        run(example.config("MultiONet", "trainer.resume=true", override), tmp_path)
    assert key in str(refused.value)


def test_another_surrogate_is_refused(tmp_path):
    run(example.config("MultiONet", "trainer.checkpoint_every=2"), tmp_path)
    with pytest.raises(UserError, match=r"surrogate\.name"):
        run(example.config("FullyConnected", "trainer.resume=true"), tmp_path)


def test_other_data_under_the_same_name_are_refused(tmp_path):
    config = example.config("MultiONet", "trainer.checkpoint_every=2")
    run(config, tmp_path)
    replaced = example.dataset()
    replaced.val.trajectories[-1, -1, -1] += 1e-12
    resumed = replace(config, trainer=replace(config.trainer, resume=True))
    with pytest.raises(UserError, match=r"other data than dataset\.name=hdf5 has now.*trainer\.resume=false"):
        train(resumed, prepare(replaced, config.dataset), "cpu", folder=tmp_path, progress=False)


def test_what_does_not_enter_the_result_may_change(tmp_path):
    config = example.config("MultiONet", "trainer.checkpoint_every=2")
    first = run(config, tmp_path)
    free = ["trainer.resume=true", "trainer.latency_repeats=7", "dataset.data_dir=elsewhere", "device=cpu"]
    free += ["dataset.path=moved.h5"]  # the data are known by their content
    assert digest(run(example.config("MultiONet", *free), tmp_path)) == digest(first)


def test_a_damaged_checkpoint_is_refused(tmp_path):
    run(example.config("MultiONet", "trainer.checkpoint_every=2"), tmp_path)
    path = tmp_path / CHECKPOINT
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"checkpoint.*trainer\.resume=false"):
        run(example.config("MultiONet", "trainer.resume=true"), tmp_path)


def without_data(state):
    del state["data"]


def without_a_row(state):
    state["optimizer"] = {"steps": 8, "groups": [], "parameters": [state["optimizer"]["row"]]}


@pytest.mark.parametrize("as_before", [without_data, without_a_row])
def test_a_checkpoint_of_an_earlier_version_is_refused(as_before, tmp_path):
    run(example.config("MultiONet", "trainer.checkpoint_every=2"), tmp_path)
    path = tmp_path / CHECKPOINT
    state = load_checkpoint(path)
    as_before(state)
    save_checkpoint(path, state)
    with pytest.raises(UserError, match=r"of an earlier version.*trainer\.resume=false"):
        run(example.config("MultiONet", "trainer.resume=true"), tmp_path)
