"""Several trainings as one stack: each is what it would be alone."""

import math
from dataclasses import replace

import pytest
import torch

from codes.errors import Diverged, StopTraining, UserError
from codes.surrogates import SURROGATES
from codes.training import TrainResult, check_population, speed_up, train, train_population
from codes.training.population import _seconds_per_step
from tests.training import example

STACKABLE = [name for name, kind in SURROGATES.items() if kind.stackable]
TOLERANCE = 1e-4  # relative, of losses and errors; 5e-6 is the most that was seen after these 20 epochs
DIFFERENT = [
    {"optimizer": "adamw", "scheduler": "cosine", "loss": "mse", "learning_rate": 1e-3, "eta_min": 0.1},
    {"optimizer": "sgd", "scheduler": "poly", "loss": "smooth_l1", "learning_rate": 1e-2, "momentum": 0.5},
    {"optimizer": "adamw", "scheduler": "schedulefree", "loss": "smooth_l1", "learning_rate": 3e-3, "beta": 0.3},
    {"optimizer": "sgd", "scheduler": "schedulefree", "loss": "mse", "regularization_factor": 1e-2},
]


def members(surrogate="FullyConnected", *overrides, changes=DIFFERENT):
    """Configs of one architecture that differ in everything that they may differ in."""
    weights = ["surrogate.derivative_weight=0.1", "surrogate.curvature_weight=0.1"]
    of_family = weights if surrogate == "LatentPoly" else []
    same = ["surrogate.beta=0.1", "surrogate.learning_rate=1e-3", *of_family]
    config = example.config(surrogate, *same, *overrides)
    return [
        replace(config, seed=seed, surrogate=replace(config.surrogate, **change)) for seed, change in enumerate(changes)
    ]


def alone(config, data):
    return train(config, data, "cpu", progress=False)


@pytest.mark.parametrize("surrogate", STACKABLE)
@pytest.mark.parametrize("parameters", [False, True])
def test_every_member_is_trained_as_if_it_were_alone(surrogate, parameters):
    data = example.data(parameters=parameters)
    configs = members(surrogate, "trainer.epochs=20", "trainer.evaluate_every=4")
    results = dict(train_population(configs, data, "cpu"))
    assert sorted(results) == [0, 1, 2, 3]
    for index, config in enumerate(configs):
        result, expected = results[index], alone(config, data)
        assert result.epoch == expected.epoch
        for row, other in zip(result.history, expected.history, strict=True):
            assert row.keys() == other.keys()
            for name in row.keys() - {"seconds"}:
                assert row[name] == pytest.approx(other[name], rel=TOLERANCE), (index, row["epoch"], name)
        torch.testing.assert_close(result.model.state_dict(), expected.model.state_dict(), rtol=1e-3, atol=1e-5)
        assert result.metrics.keys() == expected.metrics.keys()
        assert result.metrics["n_parameters"] == expected.metrics["n_parameters"]
        assert not result.model.training and result.latency.median > 0


@pytest.mark.parametrize("batch_size", [7, 64, 1024])
def test_batches_of_any_size_are_those_of_each_member(batch_size):
    """Blocks of a member differ by a trajectory or a time, and at a step the members have different ones."""
    data = example.data()
    configs = members("MultiONet", f"trainer.batch_size={batch_size}")
    for index, result in train_population(configs, data, "cpu"):
        expected = alone(configs[index], data)
        assert result.history[-1]["train_loss"] == pytest.approx(expected.history[-1]["train_loss"], rel=TOLERANCE)


def test_a_member_that_diverges_or_is_stopped_leaves_the_others_as_they_are():
    changes = [*DIFFERENT, {"optimizer": "sgd", "learning_rate": 1e30}]
    configs = members("MultiONet", "trainer.epochs=6", "trainer.evaluate_every=1", changes=changes)
    seen = []

    def report(member, epoch, metrics):
        seen.append((member, epoch))
        if (member, epoch) == (2, 3):
            raise StopTraining("worse than the others")

    ended = list(train_population(configs, example.data(), "cpu", report))
    assert [member for member, _ in ended] == [4, 2, 0, 1, 3]
    results = dict(ended)
    assert isinstance(results[4], Diverged) and "in epoch" in results[4].reason
    assert isinstance(results[2], StopTraining) and results[2].reason == "worse than the others"
    assert [epoch for member, epoch in seen if member == 2] == [1, 2, 3]
    for index in (0, 1, 3):
        expected = alone(configs[index], example.data())
        assert results[index].metrics["lae99"] == pytest.approx(expected.metrics["lae99"], rel=TOLERANCE)


def test_no_member_is_left():
    configs = members(changes=[{"optimizer": "sgd", "learning_rate": 1e30}] * 2)
    ended = dict(train_population(configs, example.data(), "cpu"))
    assert all(isinstance(ended[index], Diverged) for index in (0, 1))


def test_a_members_time_is_its_share():
    configs = members("FullyConnected", changes=DIFFERENT[:1] * 3)
    results = dict(train_population(configs, example.data(), "cpu"))
    shares = {result.seconds for result in results.values() if isinstance(result, TrainResult)}
    assert len(shares) == 1 and shares.pop() > 0


def test_what_cannot_be_trained_together_is_refused():
    for config, problem in (
        (example.config("LatentNeuralODE"), "1 or auto for LatentNeuralODE"),
        (example.config("MultiONet", "trainer.checkpoint_every=2"), "checkpoint_every"),
        (example.config("MultiONet", "trainer.epochs=0"), "trainer.epochs"),
    ):
        with pytest.raises(UserError, match=problem):
            check_population([config])
    two = [example.config("MultiONet"), example.config("MultiONet", "surrogate.hidden_size=17", "surrogate.beta=0.5")]
    with pytest.raises(UserError, match=r"must agree in surrogate\.hidden_size$"):
        next(train_population(two, example.data(), "cpu"))


def test_ways_are_measured_in_turn_over_epochs_that_are_shorter_than_a_round():
    now = [0.0]

    def way(seconds):
        def epoch():
            for _ in range(2):
                now[0] += seconds
                yield

        return epoch

    assert _seconds_per_step([way(1.0), way(3.0)], torch.device("cpu"), lambda: now[0]) == [1.0, 3.0]


def test_the_speed_up_is_measured_and_leaves_nothing():
    before = torch.get_num_threads(), torch.get_rng_state()
    value = speed_up(example.config("FullyConnected"), 3, example.data(), "cpu")
    assert math.isfinite(value) and value > 0
    assert torch.get_num_threads() == before[0] and torch.equal(torch.get_rng_state(), before[1])
