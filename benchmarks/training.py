"""Training against a bare loop, and grid blocks against pairs: ``python -m benchmarks.training``.

1. For each surrogate, ``codes.training.train`` against a loop written straight in PyTorch: the same model, optimiser,
   learning rates, batch shapes and evaluations, no framework. Ratio of medians, target at most 1.05.
2. MultiONet trained on grid blocks against the pairwise way, which evaluates branch and trunk net for each
   (trajectory, time) row of random batches of 1,024 rows: target 3 times as fast at equal test LAE99 after equal
   epochs. The rows of a block are less independent than random ones, so at equal rows a block learns a little less;
   blocks of half the rows learn more, in the same number of epochs.

Repeats are interleaved, so that whatever else the machine does falls on both; repeat ``i`` has seed ``i``.
"""

import argparse
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from time import perf_counter

import torch
from torch import Tensor
from torch.nn.functional import mse_loss
from torch.optim.lr_scheduler import CosineAnnealingLR
from tqdm import tqdm

from benchmarks.record import keep
from benchmarks.workload import compose_config, linear_reactions
from codes import surrogates
from codes.data import PreparedData
from codes.schema import TrainConfig
from codes.surrogates import SURROGATES
from codes.training import train, warm_up
from codes.training.batches import plan_blocks


@dataclass(frozen=True)
class Run:
    """Seconds from the config to the last evaluation, and the LAE99 on the test split there."""

    seconds: float
    lae99: float


Way = Callable[[TrainConfig, PreparedData], Run]


def ours(config: TrainConfig, data: PreparedData) -> Run:
    """The project's training, without the latency measurement that follows the last evaluation."""
    ends: list[float] = []
    start = perf_counter()
    result = train(config, data, "cpu", lambda *_: ends.append(perf_counter()), progress=False)
    return Run(ends[-1] - start, result.history[-1]["lae99"])


def bare(config: TrainConfig, data: PreparedData) -> Run:
    """The same training without a framework."""
    start = perf_counter()
    torch.manual_seed(config.seed)
    model = surrogates.build(config.surrogate, data.spec)
    n, n_times, _ = data.train.x.shape
    blocks = plan_blocks(model.pointwise, n, n_times, config.trainer)
    optimizer, schedule = bare_optimizer(config, model, blocks.n_groups * blocks.n_chunks)
    x, x0, t = data.train.x, data.train.x[:, 0].contiguous(), data.t
    order = torch.Generator().manual_seed(config.seed)  # whole trajectories come in the same order as in ours
    for epoch in range(1, config.trainer.epochs + 1):
        for group in torch.randperm(n, generator=order).tensor_split(blocks.n_groups):
            for chunk in bare_times(n_times, blocks.n_chunks, order):
                if chunk is None:
                    loss = model.loss(x0[group], t, None, x[group], mse_loss)
                else:
                    loss = model.loss(x0[group], t[chunk], None, x[group[:, None], chunk], mse_loss)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
        if epoch % config.trainer.evaluate_every == 0 or epoch == config.trainer.epochs:
            lae99 = bare_evaluation(model, data)
    return Run(perf_counter() - start, lae99)


def pairwise(config: TrainConfig, data: PreparedData) -> Run:
    """MultiONet with both nets evaluated for every row of random batches."""
    start = perf_counter()
    torch.manual_seed(config.seed)
    model = surrogates.MultiONet(config.surrogate, data.spec)  # type: ignore[arg-type]
    n, n_times, n_quantities = data.train.x.shape
    x = data.train.x.view(-1, n_quantities)
    x0, t = data.train.x[:, 0].repeat_interleave(n_times, 0), data.t.repeat(n).unsqueeze(1)
    terms = (n_quantities, model.config.output_factor)
    optimizer, schedule = bare_optimizer(config, model, -(-len(x) // config.trainer.batch_size))
    for epoch in range(1, config.trainer.epochs + 1):
        for rows in torch.randperm(len(x)).split(config.trainer.batch_size):
            branch, trunk = model.branch(x0[rows]).unflatten(-1, terms), model.trunk(t[rows]).unflatten(-1, terms)
            loss = mse_loss((branch * trunk).sum(-1) / math.sqrt(model.config.output_factor), x[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        if epoch % config.trainer.evaluate_every == 0 or epoch == config.trainer.epochs:
            lae99 = bare_evaluation(model, data)
    return Run(perf_counter() - start, lae99)


def bare_times(n_times: int, n_chunks: int, order: torch.Generator) -> Sequence[Tensor | None]:
    """Random times of the blocks of one group of trajectories; none: all times."""
    return [None] if n_chunks == 1 else torch.randperm(n_times, generator=order).tensor_split(n_chunks)


def bare_optimizer(
    config: TrainConfig, model: torch.nn.Module, steps_per_epoch: int
) -> tuple[torch.optim.Optimizer, CosineAnnealingLR]:
    """Fused AdamW and a cosine schedule, the project's defaults."""
    rate, decay = config.surrogate.learning_rate, config.surrogate.regularization_factor
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=decay, fused=True)
    steps = steps_per_epoch * config.trainer.epochs
    return optimizer, CosineAnnealingLR(optimizer, steps, eta_min=rate * config.surrogate.eta_min)


@torch.no_grad()
def bare_evaluation(model: torch.nn.Module, data: PreparedData) -> float:
    """LAE99, with the three other metrics computed and dropped."""
    x, transform = data.test.x, data.transform
    predicted = model(x[:, 0], data.t)
    lae: Tensor = (predicted - x).abs() * transform.error_scale.float()
    physical = transform.inverse(predicted.double()) - transform.inverse(x.double())
    _ = lae.mean().item(), physical.abs().mean().item(), physical.square().mean().item()
    return torch.quantile(lae.flatten(), 0.99).item()


def compare(ways: dict[str, tuple[Way, TrainConfig]], data: PreparedData, repeats: int) -> dict[str, list[Run]]:
    """``repeats`` runs of each way, interleaved, each repeat in the other order than the one before."""
    runs: dict[str, list[Run]] = {name: [] for name in ways}
    for repeat in tqdm(range(repeats), desc=next(iter(ways)), leave=False, disable=None):
        names = list(ways) if repeat % 2 == 0 else list(ways)[::-1]
        for name in names:
            way, config = ways[name]
            runs[name].append(way(replace(config, seed=repeat), data))
    return runs


def summary(runs: dict[str, list[Run]], reference: str) -> list[dict[str, float | str]]:
    """A row per way: medians, spread of the seconds, and the median seconds relative to those of ``reference``."""
    seconds = {name: statistics.median(run.seconds for run in of) for name, of in runs.items()}
    return [
        {
            "way": name,
            "seconds": seconds[name],
            "fastest": min(run.seconds for run in of),
            "slowest": max(run.seconds for run in of),
            "ratio": seconds[name] / seconds[reference],
            "lae99": statistics.median(run.lae99 for run in of),
        }
        for name, of in runs.items()
    ]


def against_bare(surrogate: str, epochs: int, repeats: int) -> list[dict[str, float | str]]:
    """The trainer and the bare loop on one surrogate."""
    config = compose_config(surrogate, f"trainer.epochs={epochs}", "trainer.evaluate_every=10")
    data = linear_reactions(config.dataset)
    ways: dict[str, tuple[Way, TrainConfig]] = {
        f"{surrogate}: bare": (bare, config),
        f"{surrogate}: ours": (ours, config),
    }
    return summary(compare(ways, data, repeats), f"{surrogate}: bare")


def against_pairs(epochs: int, repeats: int) -> list[dict[str, float | str]]:
    """Grid blocks of two sizes and random rows."""
    fixed = (f"trainer.epochs={epochs}", "trainer.evaluate_every=10")
    large, small = (compose_config("MultiONet", *fixed, f"trainer.batch_size={rows}") for rows in (1024, 512))
    ways: dict[str, tuple[Way, TrainConfig]] = {
        "pairwise, 1024 rows": (pairwise, large),
        "ours, blocks of 1024 rows": (ours, large),
        "ours, blocks of 512 rows": (ours, small),
    }
    return summary(compare(ways, linear_reactions(large.dataset), repeats), "pairwise, 1024 rows")


def show(title: str, rows: list[dict[str, float | str]]) -> None:
    """Print one table."""
    print(f"\n{title}\n{'':<28}{'median s':>10}{'min - max s':>16}{'ratio':>8}{'LAE99 / dex':>13}")
    for row in rows:
        spread = f"{row['fastest']:.2f} - {row['slowest']:.2f}"
        print(f"{row['way']:<28}{row['seconds']:>10.3f}{spread:>16}{row['ratio']:>8.3f}{row['lae99']:>13.4f}")


def main() -> None:
    """Run what the arguments ask for, print two tables, write one JSON file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training", description=__doc__.splitlines()[0])
    parser.add_argument("--surrogates", nargs="*", default=list(SURROGATES), choices=list(SURROGATES))
    parser.add_argument("--epochs", type=int, default=20, help="of the comparison with the bare loop")
    parser.add_argument("--pairwise-epochs", type=int, default=50, help="of the comparison with pairs; 0: leave it out")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    warm_up()
    bare_rows = [against_bare(name, arguments.epochs, arguments.repeats) for name in arguments.surrogates]
    against = [row for rows in bare_rows for row in rows]
    show(f"Training of {arguments.epochs} epochs against a bare loop (ratio: target at most 1.05)", against)
    pairs = []
    if arguments.pairwise_epochs:
        pairs = against_pairs(arguments.pairwise_epochs, arguments.repeats)
        show(f"MultiONet, {arguments.pairwise_epochs} epochs, against pairs (ratio: target at most 0.333)", pairs)
    name = f"training_{arguments.threads}_threads"
    path = keep(name, arguments=vars(arguments), bare=against, pairs=pairs)
    print(f"\nWritten to {path}")


if __name__ == "__main__":
    main()
