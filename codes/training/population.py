"""Several trainings at once: models of one architecture as one stacked model, each trained as if it were alone."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from time import perf_counter, process_time

import torch
from torch import Tensor

from codes import surrogates
from codes.checks import check_config
from codes.data import PreparedData
from codes.errors import Diverged, StopTraining, UserError
from codes.memory import keep_freed
from codes.schema import OF_A_MEMBER, TrainConfig
from codes.surrogates.base import Surrogate
from codes.surrogates.row import lay_out
from codes.surrogates.stack import stacked
from codes.training.batches import Batches, plan_blocks
from codes.training.captured import SETTLED, Step, TrainingStep
from codes.training.checkpoint import by_key
from codes.training.cpu import cpu_settings
from codes.training.footprint import check_fits
from codes.training.latency import synchronize
from codes.training.optim import Optimizer, StackedCriterion
from codes.training.progress import Progress, TrainResult
from codes.training.stacked_batches import StackedBatches
from codes.training.stacked_optim import StackedOptimizer
from codes.training.trainer import Run, seeded

MemberReport = Callable[[int, int, dict[str, float]], None]
ROUNDS, STEPS, LONGEST_SECONDS = 3, 5, 1.0  # of a measured speed-up
Ended = tuple[int, TrainResult | Diverged | StopTraining]


def check_population(configs: Sequence[TrainConfig]) -> None:
    """Refuse with a ``UserError`` what cannot be trained together, and values out of range."""
    for config in configs:
        check_config(config)
    first = configs[0]
    kind = surrogates.SURROGATES[first.surrogate.name]
    if not kind.stackable:
        raise UserError(f"slot.population: must be 1 or auto for {kind.__name__}, whose models cannot be stacked")
    if kind.pointwise and kind.loss is not Surrogate.loss:
        raise UserError(f"slot.population: must be 1 or auto for {kind.__name__}, which has a loss of its own")
    if first.trainer.resume or first.trainer.checkpoint_every:
        raise UserError("slot.population: must be 1 or auto with trainer.resume or trainer.checkpoint_every")
    for config in configs[1:]:
        differing = [key for key in shared(first) if shared(config).get(key) != shared(first)[key]]
        if differing:
            raise UserError(f"slot.population: trials that train together must agree in {', '.join(differing)}")


def shared(config: TrainConfig) -> dict[str, object]:
    """What all members must have in common, by dotted key."""
    return {key: value for key, value in by_key(config).items() if key not in OF_A_MEMBER}


def train_population(
    configs: Sequence[TrainConfig],
    data: PreparedData,
    device: str | torch.device,
    report: MemberReport | None = None,
) -> Iterator[Ended]:
    """Train one model for each of ``configs``, which differ in ``OF_A_MEMBER`` only; yields each as it ends.

    Each member has the initial weights, the batches and the steps that ``train`` would give it alone, and so the same
    result but for rounding. ``report(member, epoch, metrics)`` is called after every evaluation; ``StopTraining``
    raised there ends that member, as ``Diverged`` does, and the others go on without it. ``seconds`` and
    ``train_time`` of a member are its share of the time: that of each step, divided by the members that took it.
    Raises ``TooLarge`` where memory would not suffice for all of them (``footprint``).
    """
    check_population(configs)
    keep_freed()
    device = torch.device(device)
    with cpu_settings(configs[0].trainer.threads):
        if configs[0].trainer.check_memory:
            check_fits(configs[0], data, device, len(configs))
        yield from _Population(configs, data, device).train(report)


def speed_up(config: TrainConfig, members: int, data: PreparedData, device: str | torch.device) -> float:
    """How many times as many steps per second ``members`` trainings like ``config`` do together as one by one.

    Both are measured in turn, in some steps after a first one; nothing is kept of them. On one CPU thread in CPU time,
    which bears that the machine does other things too.
    """
    check_population([config])
    device = torch.device(device)
    clock = process_time if device.type == "cpu" and config.trainer.threads == 1 else perf_counter
    config = replace(config, surrogate=replace(config.surrogate, learning_rate=1e-9))  # nothing is to diverge here
    with cpu_settings(config.trainer.threads), seeded(config.seed, device):
        if config.trainer.check_memory:
            check_fits(config, data, device, members)
        run = Run(config, data.to(device), device, None)
        stack = _Population([config] * members, data, device)
        ways: list[Callable[[], Iterable[object]]] = [
            partial(run.steps, run.stepper()),
            partial(stack.steps, stack.stepper()),
        ]
        alone, together = _seconds_per_step(ways, device, clock)
    return members * alone / together


class _Member(Progress):
    """One training, whose weights are a row of the stack."""

    def __init__(self, index: int, config: TrainConfig, data: PreparedData, model: Surrogate, steps: int) -> None:
        super().__init__(config, data, model, steps)
        self.index = index


class _Population:
    """Members that train, all as far as each other."""

    def __init__(self, configs: Sequence[TrainConfig], data: PreparedData, device: torch.device) -> None:
        self.data, self.device, self.trainer = data.to(device), device, configs[0].trainer
        models = [_built(config, self.data, device) for config in configs]
        blocks = plan_blocks(models[0].pointwise, len(data.train), len(data.t), self.trainer)
        self.batches = StackedBatches(Batches(self.data, blocks))
        steps = self.trainer.epochs * len(blocks)
        pairs = zip(configs, models, strict=True)
        members = [_Member(index, config, self.data, model, steps) for index, (config, model) in enumerate(pairs)]
        self.stack(sorted(members, key=lambda member: StackedOptimizer.place_of(member.optimizer)))
        self.optimizer = StackedOptimizer(self.optimizers, self.rows, self.gradients_of_rows)

    def stack(self, members: list[_Member]) -> None:
        """Put the weights of ``members`` side by side, [K, N]."""
        self.members = members
        self.rows = torch.stack([member.row.detach() for member in members])
        self.gradients_of_rows = torch.zeros_like(self.rows)
        self.model = stacked(members[0].model, self.rows, self.gradients_of_rows).train()
        for member, row, gradient in zip(members, self.rows, self.gradients_of_rows, strict=True):
            member.row.data, member.row.grad = row, gradient
            lay_out(member.model, row, gradient)
        self.criterion = StackedCriterion([member.config.surrogate for member in members], self.device)

    def drop(self, gone: Sequence[_Member]) -> None:
        """Go on without ``gone``."""
        self.stack([member for member in self.members if member not in gone])
        self.optimizer.keep(self.optimizers, self.rows, self.gradients_of_rows)

    @property
    def optimizers(self) -> list[Optimizer]:
        """One for each row."""
        return [member.optimizer for member in self.members]

    def train(self, report: MemberReport | None) -> Iterator[Ended]:
        """All epochs, or until no member is left."""
        step = self.stepper()
        for _ in range(self.trainer.epochs):
            gone = []
            for member, loss in zip(self.members, self.train_epoch(step), strict=True):
                try:
                    self.end_epoch(member, loss, report)
                except (Diverged, StopTraining) as reason:
                    gone.append(member)
                    yield member.index, reason
            if len(gone) == len(self.members):
                return
            if gone:
                self.drop(gone)
                step = self.stepper()
        for member in sorted(self.members, key=lambda member: member.index):
            yield member.index, member.result()

    def train_epoch(self, step: Step) -> list[float]:
        """One pass of every member over the training split; mean loss over its rows."""
        start = perf_counter()
        totals = torch.zeros(len(self.members), dtype=torch.float64, device=self.device)
        for losses, rows in self.steps(step):
            totals.addcmul_(losses, rows)
        means: list[float] = (totals / len(self.batches.batches.rows)).tolist()
        share = (perf_counter() - start) / len(self.members)
        for member in self.members:
            member.seconds += share
        return means

    def steps(self, step: Step) -> Iterator[tuple[Tensor, Tensor]]:
        """Losses and numbers of rows, [K], of each step of an epoch."""
        for rows, indices in self.batches.epoch([member.order for member in self.members]):
            yield step(*indices), rows

    def stepper(self) -> TrainingStep:
        """A function that takes a step of those that are left."""
        return TrainingStep(self.model, self.gradients, self.optimizer, self.device)

    def gradients(self, *indices: Tensor) -> Tensor:
        """Losses [K] of a batch, whose gradients the weights have afterwards."""
        self.gradients_of_rows.zero_()
        batch, weights = self.batches.gather(*indices)
        losses = self.model.loss(*batch, self.criterion if weights is None else self.criterion.weighted(weights))
        losses.sum().backward()
        return losses.detach().double()

    def end_epoch(self, member: _Member, loss: float, report: MemberReport | None) -> None:
        """Evaluate and report what is due; raises what ends the member."""
        member.check(loss)
        member.epoch += 1
        if member.is_evaluated:
            member.evaluate(loss, report and (lambda epoch, metrics: report(member.index, epoch, metrics)))


def _built(config: TrainConfig, data: PreparedData, device: torch.device) -> Surrogate:
    with seeded(config.seed, device):
        return surrogates.build(config.surrogate, data.spec).to(device)


def _seconds_per_step(
    ways: Sequence[Callable[[], Iterable[object]]], device: torch.device, clock: Callable[[], float]
) -> list[float]:
    """Fastest seconds per step of each of ``ways``, the steps of an epoch, in ``ROUNDS`` of a few steps in turn."""
    fastest, begun = [float("inf")] * len(ways), perf_counter()
    endless = [_again_and_again(way) for way in ways]
    if device.type == "cuda":
        for steps in endless:
            for _ in zip(range(SETTLED), steps, strict=False):
                pass
    for _ in range(ROUNDS):
        for index, steps in enumerate(endless):
            next(steps)
            synchronize(device)
            start = clock()
            for _ in zip(range(STEPS), steps, strict=False):
                pass
            synchronize(device)
            fastest[index] = min(fastest[index], (clock() - start) / STEPS)
        if perf_counter() - begun > LONGEST_SECONDS:
            break
    return fastest


def _again_and_again(way: Callable[[], Iterable[object]]) -> Iterator[object]:
    while True:
        yield from way()
