"""On a GPU: steps as CUDA graphs, stacks, checkpoints, memory. Skipped where there is none."""

from dataclasses import replace

import pytest
import torch

from codes.errors import TooLarge
from codes.surrogates import SURROGATES
from codes.training import train, train_population
from codes.training.captured import TIMED
from codes.training.trainer import Run, seeded
from tests.training import example
from tests.training.test_population import DIFFERENT, members

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
CAPTURABLE = [name for name, kind in SURROGATES.items() if kind.capturable]
DEVICE = torch.device("cuda:0")


def run_of(config, data):
    with seeded(config.seed, DEVICE):
        return Run(config, data, DEVICE, None)


@pytest.mark.parametrize("change", DIFFERENT, ids=lambda change: f"{change['optimizer']}-{change['scheduler']}")
@pytest.mark.parametrize("surrogate", CAPTURABLE)
def test_a_recorded_step_gives_the_same_losses_and_weights(surrogate, change):
    data = example.data(parameters=True).to(DEVICE)
    config = example.config(surrogate, "trainer.batch_size=50" if SURROGATES[surrogate].pointwise else "seed=1")
    config = replace(config, surrogate=replace(config.surrogate, **change))
    recorded, eager = run_of(config, data), run_of(config, data)
    step = recorded.stepper()
    step.captured.pays = True
    losses = [(recorded.train_epoch(step), eager.train_epoch(plainly(eager))) for _ in range(8)]
    assert step.captured.graphs
    # An adaptive solver may take a step that it refused before, for a difference of one rounding.
    tolerance = 1e-5 if recorded.model.effort is None else 1e-3
    for loss, expected in losses:
        assert loss == pytest.approx(expected, rel=tolerance)
    torch.testing.assert_close(recorded.row, eager.row, rtol=10 * tolerance, atol=tolerance)


def plainly(run):
    def step(*indices):
        run.optimizer.begin_step()
        loss = run.gradients(*indices)
        run.optimizer.apply()
        return loss

    return step


def test_the_faster_way_is_chosen_from_steps_of_the_training():
    run = run_of(example.config("FullyConnected"), example.data().to(DEVICE))
    step = run.stepper()
    captured = step.captured
    while captured.pays is None:
        run.train_epoch(step)
    assert len(captured.eager) == len(captured.replays) == TIMED
    assert captured.pays  # a dozen small kernels in a row are nothing but their launches


@pytest.mark.parametrize("surrogate", SURROGATES)
def test_a_training_is_that_of_the_cpu_to_rounding_and_leaves_no_memory(surrogate):
    data, config = example.data(parameters=True), example.config(surrogate, "trainer.epochs=12")
    expected = train(config, data, "cpu", progress=False)
    train(config, data, DEVICE, progress=False)
    before = torch.cuda.memory_allocated(DEVICE)
    result = train(config, data, DEVICE, progress=False)
    for name in ("train_loss", "lae99"):
        assert result.history[-1][name] == pytest.approx(expected.history[-1][name], rel=1e-2)
    assert next(result.model.parameters()).device == DEVICE
    del result
    assert torch.cuda.memory_allocated(DEVICE) <= before


@pytest.mark.parametrize("surrogate", [name for name, kind in SURROGATES.items() if kind.stackable])
def test_members_of_a_stack_are_trained_as_if_alone(surrogate):
    data = example.data(parameters=True)
    configs = members(surrogate, "trainer.epochs=20", "trainer.evaluate_every=4")
    for index, result in train_population(configs, data, DEVICE):
        expected = train(configs[index], data, DEVICE, progress=False)
        for row, other in zip(result.history, expected.history, strict=True):
            assert row["train_loss"] == pytest.approx(other["train_loss"], rel=1e-3)
            assert row["lae99"] == pytest.approx(other["lae99"], rel=1e-2)


@pytest.mark.parametrize("surrogate", SURROGATES)
@pytest.mark.parametrize("other", ["cuda:0", "cpu"])
def test_a_killed_training_goes_on_from_its_checkpoint(surrogate, other, tmp_path):
    data = example.data()
    config = example.config(surrogate, "trainer.epochs=6", "trainer.checkpoint_every=3")
    whole = train(config, data, DEVICE, folder=tmp_path, progress=False)

    def kill(epoch, metrics):
        if epoch == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(config, data, DEVICE, kill, folder=tmp_path, progress=False)
    resuming = replace(config, trainer=replace(config.trainer, resume=True))
    result = train(resuming, data, other, folder=tmp_path, progress=False)
    assert [row["epoch"] for row in result.history] == [row["epoch"] for row in whole.history]
    assert result.history[-1]["train_loss"] == pytest.approx(whole.history[-1]["train_loss"], rel=1e-3)


def test_what_does_not_fit_is_refused_before_it_starts():
    config = example.config("FullyConnected", "surrogate.hidden_size=200000", "surrogate.num_hidden_layers=6")
    before = torch.cuda.memory_reserved(DEVICE)
    with pytest.raises(TooLarge, match="cuda:0"):
        train(config, example.data(), DEVICE, progress=False)
    assert torch.cuda.memory_reserved(DEVICE) == before
