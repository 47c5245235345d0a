"""The one training loop."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from codes import surrogates
from codes.checks import check_config
from codes.data import PreparedData
from codes.errors import UserError
from codes.memory import keep_freed
from codes.schema import TrainConfig
from codes.surrogates.products import coarse_gradients
from codes.training.batches import Batches, plan_blocks
from codes.training.captured import Step, TrainingStep
from codes.training.checkpoint import (
    CHECKPOINT,
    check_same_training,
    determining,
    load_checkpoint,
    save_checkpoint,
)
from codes.training.cpu import cpu_settings
from codes.training.evaluation import divergence
from codes.training.footprint import check_fits
from codes.training.optim import criterion
from codes.training.progress import Kept, Progress, Report, TrainResult

log = logging.getLogger(__name__)


def train(
    config: TrainConfig,
    data: PreparedData,
    device: str | torch.device,
    report: Report | None = None,
    *,
    folder: Path | None = None,
    progress: bool = True,
) -> TrainResult:
    """Train ``config.surrogate`` on the ``train`` split of ``data``, evaluated on its ``test`` split.

    ``report(epoch, metrics)`` is called after every evaluation and may raise ``StopTraining``, which ends the training
    and propagates. Checkpoints go to ``folder``. One training at a time per process: it owns the thread count and,
    inside a fork that is undone at the end, the global random generators; on the CPU the same seed gives the same
    result bit for bit. Raises ``UserError`` for a value out of range, ``Diverged`` for a NaN or infinite loss or
    prediction, or for an ODE solver that gave up, ``TooLarge`` where memory would not suffice (``footprint``).
    """
    check_config(config)
    if folder is None and (config.trainer.resume or config.trainer.checkpoint_every):
        raise UserError("trainer.resume and trainer.checkpoint_every need a folder to keep the checkpoint in")
    device = torch.device(device)
    keep_freed()
    with seeded(config.seed, device), cpu_settings(config.trainer.threads), divergence():
        if config.trainer.check_memory:
            check_fits(config, data, device)
        run = Run(config, data.to(device), device, folder and folder / CHECKPOINT)
        run.train(report, progress)
        return run.result()


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seeded global random generators inside; afterwards they are as they were before."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


class Run(Progress):
    """State of one training; all of it goes into a checkpoint."""

    def __init__(self, config: TrainConfig, data: PreparedData, device: torch.device, checkpoint: Path | None) -> None:
        model = surrogates.build(config.surrogate, data.spec).to(device)
        blocks = plan_blocks(model.pointwise, len(data.train), len(data.t), config.trainer)
        super().__init__(config, data, model, config.trainer.epochs * len(blocks))
        self.device, self.checkpoint = device, checkpoint
        self.batches = Batches(data, blocks)
        self.criterion = criterion(config.surrogate)

    def train(self, report: Report | None, progress: bool) -> None:
        """All epochs that are left."""
        if self.checkpoint is not None:
            self.begin_from(self.checkpoint)
        self.model.train()
        step = self.stepper()
        epochs = self.trainer.epochs
        quiet = None if progress else True  # none: no bar in a log file
        with tqdm(
            total=epochs, initial=self.epoch, unit="epoch", desc=self.config.surrogate.name, disable=quiet
        ) as bar:
            while self.epoch < epochs:
                loss = self.train_epoch(step)
                self.epoch += 1
                if self.is_evaluated:
                    self.evaluate(loss, report)
                every = self.trainer.checkpoint_every
                if self.checkpoint is not None and every and self.epoch % every == 0:
                    save_checkpoint(self.checkpoint, self.state())
                lae99 = f"{self.history[-1]['lae99']:.3g}" if self.history else "-"
                bar.set_postfix_str(f"loss={loss:.3g}, lae99={lae99}", refresh=False)
                bar.update()

    def train_epoch(self, step: Step) -> float:
        """One pass over the training split; mean loss over its rows."""
        start = perf_counter()
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        for loss, rows in self.steps(step):
            total.add_(loss, alpha=rows)
        mean = total.item() / len(self.batches.rows)
        self.check(mean)
        self.seconds += perf_counter() - start
        return mean

    def steps(self, step: Step) -> Iterator[tuple[Tensor, int]]:
        """Loss and number of rows of each step of an epoch.

        On an accelerator the loss stays there and is read once per epoch: reading it stops the device.
        """
        for indices in self.batches.epoch(self.order):
            yield step(*indices), self.batches.n_rows(*indices)

    def stepper(self) -> TrainingStep:
        """A function that takes a step."""
        return TrainingStep(self.model, self.gradients, self.optimizer, self.device)

    def gradients(self, trajectories: Tensor, times: Tensor | None = None) -> Tensor:
        """The loss of a batch, whose gradients the weights have afterwards."""
        assert self.row.grad is not None
        self.row.grad.zero_()
        loss = self.model.loss(*self.batches.gather(trajectories, times), self.criterion)
        if self.device.type == "cpu":
            self.check(loss.item())
        with coarse_gradients(self.is_coarse):
            loss.backward()
        return loss.detach()

    @property
    def is_coarse(self) -> bool:
        """Whether gradients may be coarse: not in the last quarter of a training, where the learning rate is low."""
        return self.trainer.gradients == "auto" and 4 * self.optimizer.steps <= 3 * self.optimizer.total

    def begin_from(self, checkpoint: Path) -> None:
        """Continue from the checkpoint if that is asked for and there is one, else remove it."""
        if not self.trainer.resume:
            checkpoint.unlink(missing_ok=True)
        elif not checkpoint.exists():
            log.info("trainer.resume=true: no checkpoint at %s, the training starts from scratch", checkpoint)
        else:
            state = load_checkpoint(checkpoint)
            if "row" not in state.get("optimizer", {}) or "data" not in state:
                raise UserError(
                    f"{checkpoint} is of an earlier version of this program; delete it, or set trainer.resume=false"
                )
            check_same_training(checkpoint, state["config"], determining(self.config))
            if state["data"] != self.data.fingerprint:
                raise UserError(
                    f"trainer.resume=true: {checkpoint} belongs to a training on other data than "
                    f"dataset.name={self.config.dataset.name} has now; restore them, or start anew with "
                    "trainer.resume=false"
                )
            self.restore(state)
            log.info("Resumed from %s after epoch %d", checkpoint, self.epoch)

    def state(self) -> dict[str, Any]:
        """Everything that the rest of the training depends on."""
        cuda = [torch.cuda.get_rng_state(self.device)] if self.device.type == "cuda" else []
        return {
            "config": determining(self.config),
            "data": self.data.fingerprint,
            "epoch": self.epoch,
            "seconds": self.seconds,
            "history": self.history,
            "kept": vars(self.kept) if self.kept else None,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state(),
            "order": self.order.get_state(),
            "random": [torch.get_rng_state(), *cuda],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take over ``state()`` of the training that was interrupted."""
        self.epoch, self.seconds, self.history = state["epoch"], state["seconds"], state["history"]
        self.kept = Kept(**state["kept"]) if state["kept"] else None
        self.model.load_state_dict(state["model"])
        self.optimizer.restore(state["optimizer"])
        self.order.set_state(state["order"])
        torch.set_rng_state(state["random"][0])
        for random in state["random"][1:]:
            if self.device.type == "cuda":
                torch.cuda.set_rng_state(random, self.device)
