"""Optimisers, schedules and losses against known numbers."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from codes.training.checkpoint import load_checkpoint, save_checkpoint
from codes.training.optim import Optimizer, criterion, learning_rate
from tests.training import example

CONFIG = example.config().surrogate
KINDS = [(optimizer, scheduler) for optimizer in ("adamw", "sgd") for scheduler in ("schedulefree", "cosine", "poly")]


def with_(**changes):
    return replace(CONFIG, **changes)


def step(optimiser, loss):
    if optimiser.row.grad is None:
        optimiser.row.grad = torch.zeros_like(optimiser.row)
    optimiser.row.grad.zero_()
    optimiser.begin_step()
    loss.backward()
    optimiser.apply()


def test_cosine_ends_at_a_fraction_of_the_learning_rate():
    config = with_(scheduler="cosine", learning_rate=0.1, eta_min=0.2)
    rates = [learning_rate(config, step, 100) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[50] == pytest.approx(0.06)
    assert rates[100] == pytest.approx(0.02)
    assert rates == sorted(rates, reverse=True)


def test_poly_has_its_power():
    config = with_(scheduler="poly", learning_rate=0.1, poly_power=2.0)
    assert [learning_rate(config, step, 4) for step in range(5)] == pytest.approx([0.1, 0.05625, 0.025, 0.00625, 0])


@pytest.mark.parametrize("scheduler", ["cosine", "poly"])
def test_schedules_are_those_of_torch(scheduler):
    config = with_(scheduler=scheduler, learning_rate=0.1, eta_min=0.1, poly_power=1.7)
    reference = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    if scheduler == "cosine":
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(reference, 50, eta_min=0.01)
    else:
        schedule = torch.optim.lr_scheduler.PolynomialLR(reference, 50, power=1.7)
    for step in range(50):
        assert learning_rate(config, step, 50) == pytest.approx(reference.param_groups[0]["lr"], rel=1e-6)
        reference.step()
        schedule.step()


@pytest.mark.parametrize(("optimizer", "scheduler"), KINDS)
def test_every_kind_finds_the_minimum_of_a_parabola(optimizer, scheduler):
    weight = nn.Parameter(torch.tensor([3.0, -2.0]))
    config = with_(optimizer=optimizer, scheduler=scheduler, learning_rate=0.2, regularization_factor=0.0)
    optimiser = Optimizer(weight, config, 300)
    for _ in range(300):
        step(optimiser, (weight - 1).square().sum())
    with optimiser.evaluating():
        torch.testing.assert_close(weight.detach(), torch.ones(2), atol=0.05, rtol=0)


@pytest.mark.parametrize(("optimizer", "scheduler"), KINDS)
def test_regularization_pulls_weights_to_zero(optimizer, scheduler):
    weight = nn.Parameter(torch.tensor([1.0]))
    config = with_(optimizer=optimizer, scheduler=scheduler, learning_rate=0.1, regularization_factor=0.5)
    optimiser = Optimizer(weight, config, 20)
    for _ in range(20):
        step(optimiser, 0 * weight.sum())
    with optimiser.evaluating():
        assert abs(weight.item()) < 0.9


@pytest.mark.parametrize(("optimizer", "scheduler"), KINDS)
def test_looking_at_the_weights_does_not_change_the_training(optimizer, scheduler):
    config = with_(optimizer=optimizer, scheduler=scheduler, learning_rate=0.03)
    watched, unwatched = (nn.Parameter(torch.tensor([3.0, -2.0, 0.1])) for _ in range(2))
    optimisers = Optimizer(watched, config, 50), Optimizer(unwatched, config, 50)
    for _ in range(50):
        for weight, optimiser in zip((watched, unwatched), optimisers, strict=True):
            step(optimiser, (weight - 1).pow(4).sum())
        with optimisers[0].evaluating():
            pass
    assert torch.equal(watched, unwatched)


def test_schedule_free_evaluates_the_average_and_trains_another_point():
    weight = nn.Parameter(torch.tensor([3.0]))
    optimiser = Optimizer(weight, with_(scheduler="schedulefree", learning_rate=0.1), 10)
    for _ in range(10):
        step(optimiser, weight.square().sum())
    trained = weight.item()
    with optimiser.evaluating():
        assert weight.item() != trained
    assert weight.item() == trained


@pytest.mark.parametrize(("optimizer", "scheduler"), KINDS)
def test_a_restored_optimiser_goes_on_bit_for_bit(optimizer, scheduler, tmp_path):
    config = with_(optimizer=optimizer, scheduler=scheduler, learning_rate=0.03)
    first = nn.Parameter(torch.tensor([3.0, -2.0]))
    before = Optimizer(first, config, 20)
    for _ in range(10):
        step(before, (first - 1).pow(4).sum())
    save_checkpoint(tmp_path / "state", {"weight": first, "optimizer": before.state()})
    state = load_checkpoint(tmp_path / "state")
    second = nn.Parameter(state["weight"])
    second.grad = torch.zeros_like(second)
    after = Optimizer(second, config, 20)
    after.restore(state["optimizer"])
    for _ in range(10):
        step(before, (first - 1).pow(4).sum())
        step(after, (second - 1).pow(4).sum())
    assert torch.equal(first, second)


def test_losses():
    prediction, truth = torch.tensor([0.0, 0.0]), torch.tensor([1.0, 4.0])
    assert criterion(with_(loss="mse"))(prediction, truth).item() == pytest.approx(8.5)
    # smooth L1: d²/(2 beta) below beta, d - beta/2 above
    assert criterion(with_(loss="smooth_l1", beta=2.0))(prediction, truth).item() == pytest.approx((0.25 + 3) / 2)
    assert not math.isclose(
        criterion(with_(loss="smooth_l1", beta=0.5))(prediction, truth).item(), (0.25 + 3) / 2
    )  # beta counts
