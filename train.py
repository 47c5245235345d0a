"""Train one surrogate, score it on held-out trajectories and save it; returns its objective.

``python train.py --help`` shows the choices. Everything heavy is imported once a training starts.
"""

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from tqdm import tqdm

from codes import arguments, cli, resolvers, schema
from codes.checks import check_config, check_keys
from codes.errors import Diverged
from codes.metrics import METRICS

if TYPE_CHECKING:
    from codes.data import PreparedData

schema.register()
resolvers.register()
log = logging.getLogger(__name__)

Report = Callable[[int, dict[str, float]], None]
WRITTEN = ("config.yaml", "model.safetensors", "metrics.yaml", "history.csv", "training.html")
EXPORTED = ("model.pt2", "model.onnx")  # what codes.export makes of the weights


def settings(config: DictConfig) -> schema.TrainConfig:
    """The part of a composed config that a training depends on, as plain dataclasses."""
    part = OmegaConf.masked_copy(config, [field.name for field in fields(schema.TrainConfig)])
    return OmegaConf.to_object(OmegaConf.merge(schema.typed_train_config(), part))  # type: ignore[return-value]


def begin(config: schema.TrainConfig) -> tuple["PreparedData", str]:
    """Data on its device, and the device's name; refuses a config out of range before anything is loaded."""
    check_config(config)
    from codes.data import load_data_once
    from codes.device import resolve_device

    device = resolve_device(config.device)
    return load_data_once(OmegaConf.to_yaml(config.dataset), device), device


def run_trial(config: DictConfig, report: Report, folder: Path) -> dict[str, float]:
    """One trial of a study, in a slot's worker process: metrics on ``test``; the artifact goes into ``folder``."""
    from codes.training import save_artifact, train

    typed = settings(config)
    data, device = begin(typed)
    result = train(typed, data, device, report, folder=folder, progress=False)
    save_artifact(folder, result.model, typed, data)
    return {**result.metrics, "inference_time_spread": result.latency.spread}  # kept with the trial, no objective


def run_together(
    configs: Sequence[DictConfig], report: Callable[[int, int, dict[str, float]], None], folders: Sequence[Path]
) -> Iterator[tuple[int, dict[str, float] | Exception]]:
    """Several trials of a study as one stacked model; yields the metrics of each, or what ended it, as it ends."""
    from codes.training import TrainResult, check_population, save_artifact, train_population

    typed = [settings(config) for config in configs]
    check_population(typed)
    data, device = begin(typed[0])
    for member, ended in train_population(typed, data, device, report):
        if isinstance(ended, TrainResult):
            save_artifact(folders[member], ended.model, typed[member], data)
            yield member, {**ended.metrics, "inference_time_spread": ended.latency.spread}
        else:
            yield member, ended


def speed_up_together(config: DictConfig, members: int) -> float:
    """How many times as fast ``members`` trials of this architecture are together as one by one, measured here."""
    from codes.training import speed_up

    typed = settings(config)
    data, device = begin(typed)
    return speed_up(typed, members, data, device)


def warm_up() -> None:
    """What a slot's worker does before its first trial, which is then not slower than the others."""
    from codes import training
    from codes.device import resolve_device

    training.warm_up(resolve_device(resolvers.device_slot()))


@hydra.main(config_path="conf", config_name="train", execution_whitelist=["codes.callbacks.*", "codes.console.*"])
def main(config: DictConfig) -> float | tuple[float, ...]:
    """Train what was composed."""
    check_keys(config)
    typed = settings(config)
    data, device = begin(typed)
    from codes.training import evaluate, evaluate_by_quantity, save_artifact, train, write_history, write_metrics
    from codes.training.checkpoint import CHECKPOINT
    from codes.training.mean_trajectory import mean_errors
    from codes.training.pictures import write_picture

    folder = Path(HydraConfig.get().runtime.output_dir)
    if not typed.trainer.resume:
        keep_earlier(folder, [CHECKPOINT])
    try:
        result = train(typed, data, device, folder=folder)
    except KeyboardInterrupt:
        if (folder / CHECKPOINT).exists():
            tell(f"\nstopped; go on from the last checkpoint with\n{resume_command(HydraConfig.get())}")
        raise
    keep_earlier(folder, [*WRITTEN, *EXPORTED])
    save_artifact(folder, result.model, typed, data)
    write_history(folder / "history.csv", result.history)
    try:
        val = evaluate(result.model, data.val, data.t, data.transform, typed.trainer.target_percentile)
    except Diverged as diverged:
        raise Diverged(f"{diverged}, on val, which has no score; the trained surrogate is in {folder}") from diverged
    by_quantity = {
        name: evaluate_by_quantity(result.model, split, data, typed.trainer.target_percentile)
        for name, split in (("test", data.test), ("val", data.val))
    }
    mean = mean_errors(data, data.val, typed.trainer.target_percentile)
    write_metrics(folder / "metrics.yaml", result, val, mean, by_quantity, data.transform.unit)
    write_picture(folder / "training.html", result, data, by_quantity["val"])
    tell(summary(result.metrics, val, mean, by_quantity["val"]["lae99"], data.transform.unit, folder))
    values = tuple(result.metrics[name] for name in typed.objective.metrics)
    return values[0] if len(values) == 1 else values


def resume_command(job: Any) -> str:
    """The same training in the same folder, from its checkpoint."""
    if job.mode is RunMode.MULTIRUN:
        folder = [f"hydra.run.dir={os.path.relpath(job.runtime.output_dir, job.runtime.cwd)}"]
    else:
        of_hydra: Any = OmegaConf.to_container(job.overrides.hydra, resolve=False)
        folder = [text for text in of_hydra if text.startswith("hydra.run.dir=")]
    repeated = [text for text in arguments.repeated(job) if text.lstrip("+").partition("=")[0] != "trainer.resume"]
    return arguments.command_line("train.py", [*repeated, *folder, "trainer.resume=true"])


def keep_earlier(folder: Path, names: Sequence[str]) -> None:
    """Move what an earlier training left under ``names`` into a backup folder, so that nothing is silently replaced."""
    earlier = [folder / name for name in names if (folder / name).exists()]
    if earlier:
        backup = folder / f"backup-{datetime.now():%Y-%m-%d_%H-%M-%S-%f}"
        backup.mkdir()
        for path in earlier:
            path.rename(backup / path.name)
        tell(f"what an earlier training left is kept in {backup}")


def summary(
    metrics: dict[str, float],
    val: dict[str, float],
    mean: dict[str, float],
    by_quantity: dict[str, float],
    unit: str,
    folder: Path,
) -> str:
    """Closing lines: both scores side by side, and beside them the errors on ``val`` of the ``mean`` training
    trajectory; the costs, the quantity with the largest ``lae99`` on ``val``, where everything lies, and what to do
    with it."""
    units = {"lae99": unit, "mlae": unit, "mae": "data units", "mse": "data units squared"}
    rows = [f"{name:<16}{metrics[name]:>12.4g}{val[name]:>12.4g}{mean[name]:>12.4g}  {units[name]}" for name in val]
    costs = [f"{name:<16}{metrics[name]:>12.6g}{'':>26}{METRICS[name].unit}" for name in metrics if name not in val]
    worst, error = max(by_quantity.items(), key=lambda entry: entry[1])
    told = [f"worst of {len(by_quantity)} quantities on val: {worst}, lae99 {error:.4g} {unit}"]
    return "\n".join(
        [
            "",
            f"{'':<16}{'test':>12}{'val':>12}{'mean':>12}",
            *rows,
            *costs,
            "test chose the weights; val is the score on trajectories that no choice has seen.",
            "mean: what predicting the mean training trajectory for all of them would have on val.",
            *(told if len(by_quantity) > 1 else []),
            "",
            f"Everything is in {folder}: {', '.join(WRITTEN)}",
            f"Use it: codes.load({str(folder)!r}).predict(x0, t)",
        ]
    )


def tell(text: str) -> None:
    """A line for the screen and the log file."""
    tqdm.write(text)  # above any bar
    log.info(text)


if __name__ == "__main__":
    cli.run(main)
