"""The training loop."""

import logging
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from codes import surrogates
from codes.errors import Diverged, StopTraining, UserError
from codes.metrics import METRICS
from codes.surrogates import SURROGATES, products
from codes.surrogates.base import SolverFailure
from codes.training import evaluate, train
from codes.training.cpu import cpu_settings
from codes.training.trainer import Run
from tests.training import example
from tests.training.child import digest

ROOT = Path(__file__).parents[2]


def run(config, data=None, report=None, **options):
    return train(config, data or example.data(), "cpu", report, progress=False, **options)


@pytest.mark.parametrize("surrogate", SURROGATES)
@pytest.mark.parametrize("parameters", [False, True])
def test_every_surrogate_trains_and_every_metric_is_there(surrogate, parameters):
    seen = []
    data = example.data(parameters=parameters)
    result = run(example.config(surrogate), data, lambda epoch, metrics: seen.append((epoch, metrics)))
    assert set(result.metrics) == set(METRICS)
    assert all(math.isfinite(value) for value in result.metrics.values())
    assert [row["epoch"] for row in result.history] == [epoch for epoch, _ in seen] == [2, 4]
    assert set(seen[0][1]) == set(METRICS) - {"inference_time"}
    assert result.metrics["n_parameters"] == sum(p.numel() for p in result.model.parameters())
    assert result.metrics["train_time"] == result.seconds == result.history[-1]["seconds"] > 0
    assert result.metrics["inference_time"] == result.latency.median
    assert not result.model.training


def test_inference_time_is_known_from_the_first_evaluation_on_where_it_is_an_objective():
    seen = []
    config = example.config("MultiONet", "objective.metrics=[lae99,inference_time]")
    result = run(config, report=lambda epoch, metrics: seen.append(metrics))
    assert [set(metrics) for metrics in seen] == [set(METRICS)] * 2
    assert 0 < seen[0]["inference_time"] == seen[1]["inference_time"] != result.metrics["inference_time"]
    assert digest(result) == digest(run(example.config())), "to know it changes nothing"


def test_training_learns():
    config = example.config("FullyConnected", "trainer.epochs=60", "trainer.evaluate_every=1")
    history = run(config).history
    assert history[-1]["train_loss"] < 0.1 * history[0]["train_loss"]
    assert history[-1]["lae99"] < 0.3 * history[0]["lae99"]


def test_evaluation_after_every_nth_and_the_last_epoch():
    history = run(example.config("MultiONet", "trainer.epochs=7", "trainer.evaluate_every=3")).history
    assert [row["epoch"] for row in history] == [3, 6, 7]


def test_only_the_test_split_is_looked_at():
    data = example.data()
    blind = replace(data, val=replace(data.val, x=torch.full_like(data.val.x, torch.nan)))
    assert digest(run(example.config())) == digest(run(example.config(), blind))


@pytest.mark.parametrize("surrogate", SURROGATES)
def test_the_same_seed_gives_the_same_bits(surrogate):
    config = example.config(surrogate)
    first = digest(run(config))
    torch.rand(3)  # whatever happened to the global generator in between
    assert digest(run(config)) == first
    assert digest(run(replace(config, seed=43))) != first


def test_the_same_seed_gives_the_same_bits_in_another_process(tmp_path):
    command = [sys.executable, "-m", "tests.training.child", str(tmp_path), "MultiONet"]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert said.splitlines()[-1] == f"digest {digest(run(example.config()))}"


def test_global_random_numbers_and_threads_are_left_as_they_were():
    torch.manual_seed(7)
    threads, expected = torch.get_num_threads(), torch.rand(3)
    torch.manual_seed(7)
    run(example.config())
    assert torch.equal(torch.rand(3), expected)
    assert torch.get_num_threads() == threads


def test_numbers_that_a_cpu_is_slow_with_are_zero_in_a_training_only():
    small, seen = torch.tensor(1e-30), []
    torch.set_flush_denormal(False)
    train(example.config("MultiONet"), example.data(), "cpu", lambda *_: seen.append(small * 1e-9), progress=False)
    assert seen
    assert not any(seen)
    assert small * 1e-9 > 0


WIDE = ["surrogate.hidden_size=160", "trainer.batch_size=504"]  # of which bfloat16 pays


def test_gradients_are_coarse_where_the_processor_can_and_it_is_allowed(monkeypatch):
    monkeypatch.setattr(products, "HAS_BFLOAT16", False)
    fine = digest(run(example.config("FullyConnected", *WIDE)))
    monkeypatch.setattr(products, "HAS_BFLOAT16", True)
    assert digest(run(example.config("FullyConnected", *WIDE, "trainer.gradients=float32"))) == fine
    assert digest(run(example.config("FullyConnected", *WIDE))) != fine


def test_in_the_last_quarter_of_a_training_they_are_not():
    training = Run(
        example.config("FullyConnected", "trainer.epochs=8", *WIDE), example.data(), torch.device("cpu"), None
    )
    allowed = []
    while training.optimizer.steps < training.optimizer.total:
        training.optimizer.begin_step()
        allowed.append(training.is_coarse)
    assert allowed == [True] * 6 + [False] * 2


def test_threads_are_those_asked_for():
    before = torch.get_num_threads()
    with cpu_settings(before + 1):
        assert torch.get_num_threads() == before + 1
    with cpu_settings(None):
        assert torch.get_num_threads() == before


@pytest.mark.parametrize("scheduler", ["schedulefree", "cosine"])
def test_how_often_it_is_evaluated_does_not_change_the_training(scheduler):
    common = ("MultiONet", "trainer.keep=last", f"surrogate.scheduler={scheduler}")
    often, seldom = (run(example.config(*common, f"trainer.evaluate_every={every}")) for every in (1, 4))
    assert often.history[-1]["lae99"] == seldom.history[-1]["lae99"]
    for name, value in often.model.state_dict().items():
        assert torch.equal(value, seldom.model.state_dict()[name])


def run_that_gets_worse(*overrides):
    """A training whose test trajectories move away after epoch 6, and its data before and after that."""
    early, late = (
        replace(example.data(), test=replace(example.data().test, x=example.data().test.x + shift)) for shift in (0, 9)
    )
    moving = replace(early, test=replace(early.test, x=early.test.x.clone()))

    def move(epoch, metrics):
        if epoch == 6:
            moving.test.x.copy_(late.test.x)

    config = example.config("MultiONet", *overrides, "trainer.epochs=12", "trainer.evaluate_every=1")
    return run(config, moving, move), early, late


@pytest.mark.parametrize(("keep", "scheduler"), [("best", "cosine"), ("last", "cosine"), ("best", "schedulefree")])
def test_metrics_are_those_of_the_weights_that_are_kept(keep, scheduler):
    result, early, late = run_that_gets_worse(f"trainer.keep={keep}", f"surrogate.scheduler={scheduler}")
    values = [row["lae99"] for row in result.history]
    assert min(values) < values[-1]
    kept = result.history[result.epoch - 1]
    assert kept["lae99"] == result.metrics["lae99"] == (min(values) if keep == "best" else values[-1])
    data = early if keep == "best" else late
    again = evaluate(result.model, data.test, data.t, data.transform, 99)
    assert again == {name: kept[name] for name in again}


BEST_BY = [("[mse,lae99]", "mse"), ("[inference_time,mae]", "mae"), ("[train_time]", "lae99")]


@pytest.mark.parametrize(("metrics", "by"), BEST_BY)
def test_best_is_by_the_first_accuracy_of_the_objective(metrics, by):
    result, *_ = run_that_gets_worse(f"objective.metrics={metrics}")
    assert result.epoch <= 6
    assert result.metrics[by] == min(row[by] for row in result.history)


def test_report_may_stop_the_training():
    def stop(epoch, metrics):
        raise StopTraining(f"pruned at {epoch}")

    with pytest.raises(StopTraining, match="pruned at 2") as stopped:
        run(example.config(), report=stop)
    assert not isinstance(stopped.value, Diverged)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_loss_that_is_not_finite_stops_at_once(value):
    data = example.data()
    x = data.train.x.clone()
    x[0, 3, 1] = value
    with pytest.raises(Diverged, match=r"loss is (nan|inf) in epoch 1"):
        run(example.config(), replace(data, train=replace(data.train, x=x)), pytest.fail)


def test_an_explosion_is_a_divergence():
    config = example.config("MultiONet", "surrogate.optimizer=sgd", "surrogate.learning_rate=1e20")
    with pytest.raises(Diverged):
        run(config)


def test_a_solver_that_gives_up_is_a_divergence(monkeypatch):
    class Stiff(SURROGATES["FullyConnected"]):
        def loss(self, *_):
            raise SolverFailure("reached the maximum of 500 steps")

    monkeypatch.setattr(surrogates, "build", Stiff)
    with pytest.raises(Diverged, match="maximum of 500 steps"):
        run(example.config("FullyConnected"))


def test_checkpoints_need_a_folder():
    with pytest.raises(UserError, match="folder"):
        run(example.config("MultiONet", "trainer.checkpoint_every=1"))


def test_the_screen_is_quiet(capfd, caplog):
    with caplog.at_level(logging.INFO):
        run(example.config())
    out, err = capfd.readouterr()
    assert (out, err, caplog.text) == ("", "", "")
