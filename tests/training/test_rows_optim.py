"""Optimisers of rows of weights against PyTorch's, one for each row."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from codes.training.rows_optim import ROWS
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


def one_step(ours, theirs, gradients, step):
    factor = 1 / (1 + step)  # a schedule
    gradients.copy_(torch.randn(gradients.shape, generator=torch.Generator().manual_seed(step)))
    for optimizer, gradient in zip(theirs, gradients, strict=True):
        (group,) = optimizer.param_groups
        group["lr"] = factor * (group.setdefault("first", group["lr"]))
        group["params"][0].grad = gradient.clone()
        optimizer.step()
    ours.begin_step([factor * optimizer.param_groups[0]["first"] for optimizer in theirs])
    ours.apply()


@pytest.mark.parametrize("n_pieces", [None, 1, 4])
@pytest.mark.parametrize("kind", ROWS)
def test_every_row_moves_as_by_an_optimizer_of_its_own(kind, n_pieces):
    rows, gradients = torch.randn(3, 50, generator=torch.Generator().manual_seed(99)), torch.zeros(3, 50)
    alone = [nn.Parameter(row.clone()) for row in rows]
    theirs = [pytorchs(kind, row, config) for row, config in zip(alone, configs_of(kind), strict=True)]
    ours = ROWS[kind](rows, gradients, configs_of(kind))
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
    again = ROWS[kind](rows[:1].clone(), gradients[:1].clone(), configs_of(kind)[:1])
    again.restore(state["state"][0])
    one_step(again, theirs[:1], again.gradients, 15)
    torch.testing.assert_close(again.rows[0], alone[0].detach(), rtol=1e-5, atol=1e-6)
