"""Optimisers of rows of weights against the libraries', one for each row."""

from dataclasses import replace

import pytest
import schedulefree
import torch
from torch import nn

from codes.training.optim import FREE, SCHEDULED
from tests.training import example

CONFIG = example.config().surrogate
CHANGES = [
    {"learning_rate": 1e-2, "regularization_factor": 0.3, "momentum": 0.9},
    {"learning_rate": 1e-3, "regularization_factor": 0.0, "momentum": 0.5},
    {"learning_rate": 3e-2, "regularization_factor": 0.1, "momentum": 0.0},
]


def configs_of(kind):
    return [replace(CONFIG, optimizer=kind, **change) for change in CHANGES]


def pytorchs(kind, row, config):
    options = {"lr": config.learning_rate, "weight_decay": config.regularization_factor}
    if kind == "adamw":
        return torch.optim.AdamW([row], **options)
    return torch.optim.SGD([row], momentum=config.momentum, **options)


def one_step(ours, theirs, gradients, step, factor=None):
    factor = factor or 1 / (1 + step)  # a schedule
    gradients.copy_(torch.randn(gradients.shape, generator=torch.Generator().manual_seed(step)))
    for optimizer, gradient in zip(theirs, gradients, strict=True):
        (group,) = optimizer.param_groups
        group["lr"] = factor * (group.setdefault("first", group["lr"]))
        group["params"][0].grad = gradient.clone()
        optimizer.step()
    ours.begin_step([factor * optimizer.param_groups[0]["first"] for optimizer in theirs])
    ours.apply()


@pytest.mark.parametrize("n_pieces", [None, 1, 4])
@pytest.mark.parametrize("kind", SCHEDULED)
def test_every_row_moves_as_by_an_optimizer_of_its_own(kind, n_pieces):
    rows, gradients = torch.randn(3, 50, generator=torch.Generator().manual_seed(99)), torch.zeros(3, 50)
    alone = [nn.Parameter(row.clone()) for row in rows]
    theirs = [pytorchs(kind, row, config) for row, config in zip(alone, configs_of(kind), strict=True)]
    ours = SCHEDULED[kind](rows, gradients, configs_of(kind))
    if kind == "adamw" and n_pieces:  # as on a GPU
        ours.cut(n_pieces)
    for step in range(10):
        one_step(ours, theirs, gradients, step)
        torch.testing.assert_close(rows, torch.stack([row.detach() for row in alone]), rtol=1e-5, atol=1e-6)
    # one leaves
    rows, gradients = rows[[0, 2]].clone(), torch.zeros(2, 50)
    theirs, alone = [theirs[0], theirs[2]], [alone[0], alone[2]]
    ours.keep([0, 2], rows, gradients, [configs_of(kind)[0], configs_of(kind)[2]])
    for step in range(10, 15):
        one_step(ours, theirs, gradients, step)
    torch.testing.assert_close(rows, torch.stack([row.detach() for row in alone]), rtol=1e-5, atol=1e-6)
    # and one goes on in PyTorch's, and from there in another of ours
    state = theirs[0].state_dict()
    for name, value in ours.state().items():
        torch.testing.assert_close(value, state["state"][0].get(name, value), rtol=1e-5, atol=1e-7)
    again = SCHEDULED[kind](rows[:1].clone(), gradients[:1].clone(), configs_of(kind)[:1])
    again.restore(state["state"][0], 15)
    one_step(again, theirs[:1], again.gradients, 15)
    torch.testing.assert_close(again.rows[0], alone[0].detach(), rtol=1e-5, atol=1e-6)


def free_of_the_library(kind, row, config):
    options = {"lr": config.learning_rate, "weight_decay": config.regularization_factor}
    if kind == "adamw":
        return schedulefree.AdamWScheduleFree([row], **options)
    return schedulefree.SGDScheduleFree([row], momentum=config.momentum, **options)


def evaluated(ours, theirs):
    """Weights that are evaluated, of our rows and of the library's, which go on to train afterwards."""
    for optimizer in theirs:
        optimizer.eval()
    rows = torch.stack([optimizer.param_groups[0]["params"][0].detach().clone() for optimizer in theirs])
    for optimizer in theirs:
        optimizer.train()
    return torch.stack([ours.average(place) for place in range(len(theirs))]), rows


@pytest.mark.parametrize("kind", FREE)
def test_rows_without_a_schedule_move_as_those_of_the_library(kind):
    configs = [replace(config, momentum=config.momentum or 0.2) for config in configs_of(kind)]
    rows, gradients = torch.randn(3, 50, generator=torch.Generator().manual_seed(99)), torch.zeros(3, 50)
    alone = [nn.Parameter(row.clone()) for row in rows]
    theirs = [free_of_the_library(kind, row, config) for row, config in zip(alone, configs, strict=True)]
    for optimizer in theirs:
        optimizer.train()
    ours = FREE[kind](rows, gradients, configs)
    torch.testing.assert_close(*evaluated(ours, theirs))
    for step in range(10):
        one_step(ours, theirs, gradients, step, factor=1)
        torch.testing.assert_close(rows, torch.stack([row.detach() for row in alone]), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(*evaluated(ours, theirs), rtol=1e-5, atol=1e-5)
    # one leaves
    rows, gradients = rows[[0, 2]].clone(), torch.zeros(2, 50)
    theirs = [theirs[0], theirs[2]]
    ours.keep([0, 2], rows, gradients, [configs[0], configs[2]])
    for step in range(10, 15):
        one_step(ours, theirs, gradients, step, factor=1)
    torch.testing.assert_close(*evaluated(ours, theirs), rtol=1e-5, atol=1e-5)
    # and one goes on from what the library knows of it
    state = theirs[0].state_dict()["state"][0]
    assert ours.state().keys() == state.keys()
    again = FREE[kind](rows[:1].clone(), gradients[:1].clone(), configs[:1])
    again.restore(state, 15)
    one_step(again, theirs[:1], again.gradients, 15, factor=1)
    torch.testing.assert_close(*evaluated(again, theirs[:1]), rtol=1e-5, atol=1e-5)
