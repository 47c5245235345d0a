"""Tune one surrogate on one dataset: an Optuna study whose trials are trainings, resumed by the same command.

``python tune.py --help`` shows the choices. Everything heavy is imported once a study starts.
"""

import copy
import shlex
from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from codes import arguments, cli, resolvers, schema, secrets
from codes.checks import check_config, check_keys
from codes.errors import UserError
from codes.metrics import with_unit

if TYPE_CHECKING:
    from codes.storage import Database
    from codes.tuning.origins import Layer

schema.register()
resolvers.register()


@hydra.main(config_path="conf", config_name="tune", execution_whitelist=["codes.callbacks.*", "codes.console.*"])
def main(config: DictConfig) -> dict[str, str]:
    """Run the study that was composed; its trials are those of ``train.py``. Returns its row in a multirun's table."""
    secrets.take_from_config(config)  # that of a job of a multirun
    cli.refuse_older_style(config)
    check_keys(config)
    resolve_hydra(config)
    first_training(config)
    from codes.tuning.origins import composed_layers, origins
    from codes.tuning.stages import narrow, sum_up
    from codes.tuning.study import run_study

    job = HydraConfig.get()
    is_fine = config.fine is not None  # search_space=fine
    with narrow(config, prepare, arguments.typed(job)) if is_fine else nullcontext():
        layers = composed_layers()
        row = run_study(
            config,
            runner="train:run_trial",
            prepare=prepare,
            warm_up="train:warm_up",
            together="train:run_together",
            speed_up="train:speed_up_together",
            overrides=arguments.repeated(job),
            origins=origins(layers),
            known=known(config, layers) if config.warm_start else {},
            report=report,
        )
    if is_fine:
        sum_up(config)  # its ranges may have been changed
    return row


def resolve_hydra(config: DictConfig) -> None:
    """Put its value in the place of each ``${hydra:...}``: neither workers nor later commands are jobs of Hydra."""
    from codes.tuning.changes import flat

    plain: Any = OmegaConf.to_container(config, resolve=False)
    for key, value in flat(plain).items():
        if isinstance(value, str) and "${hydra:" in value:
            OmegaConf.update(config, key, OmegaConf.select(config, key))


def first_training(config: DictConfig) -> schema.TrainConfig:
    """What each training of the study starts from; refuses values out of range."""
    from train import settings

    typed = settings(config)
    check_config(typed)
    return typed


def prepare(config: DictConfig) -> str:
    """Refuse what no training could start from; make or fetch the data once, before several workers ask for it.

    It is loaded as a training loads it, which looks at every value. Conditions may look at its parameters. A file of
    the user's can be replaced while the study runs or rests: what is in it becomes part of the config.

    Returns:
        The errors that a surrogate of these data must beat, for the screen.
    """
    typed = first_training(config)
    import torch

    from codes import surrogates
    from codes.data import file_content, load_data, locate
    from codes.training.mean_trajectory import mean_errors

    if isinstance(config.slot.population, int) and config.slot.population > 1:
        from codes.training import check_population

        check_population([typed])
    dataset: schema.DatasetConfig = OmegaConf.to_object(config.dataset)  # type: ignore[assignment]
    data = load_data(dataset)
    with torch.device("meta"):  # takes no memory
        surrogates.build(typed.surrogate, data.spec)
        check_tuned(config, data.spec)
    config.dataset.n_parameters = data.spec.n_parameters
    if dataset.source == "file":
        config.dataset.content = file_content(locate(dataset))
    errors = mean_errors(data, data.test, typed.trainer.target_percentile)
    names = [name for name in typed.objective.metrics if name in errors] or ["lae99"]
    return ", ".join(f"{name} {with_unit(name, errors[name])}" for name in names)


def check_tuned(config: DictConfig, spec: schema.DataSpec) -> None:
    """Refuse a choice, or the end of a range, that makes no surrogate for the data, unless it is never tried."""
    from codes import surrogates
    from codes.tuning.entries import read_space

    if OmegaConf.is_interpolation(config, "search_space"):  # of a fine stage, which draws its ranges later
        return
    for parameter in read_space(config):
        section, _, key = parameter.key.partition(".")
        if parameter.when is False or section != "surrogate":
            continue
        tried = copy.deepcopy(config.surrogate)  # which still belongs to the whole config
        for value in parameter.choices or (parameter.high,):
            OmegaConf.update(tried, key, value)
            surrogate: Any = OmegaConf.to_object(tried)
            try:
                surrogates.build(surrogate, spec)
            except UserError as error:
                raise UserError(f"search_space.{parameter.name}: {error}; leave it out") from error


def report(config: DictConfig, database: "Database") -> str:
    """Write the study's page, and the one that compares it with others of its tuning_id; what came out, where it is."""
    from codes.results.opening import keep
    from codes.results.replay import exactness, train_command
    from codes.results.report import write_reports
    from codes.results.report.findings import read
    from codes.results.report.study import in_words
    from codes.results.report.write import BEST

    paths = write_reports(config, database)
    kept = keep(config.study_name, config, database)
    findings = read(kept)
    again = ""
    if findings.chosen is not None:
        again = f"train that trial again, {exactness(findings.chosen)}, and score it on the held-out split\n"
        again += f"  {train_command(kept.folder / BEST)}\n"
    places = ("--config-dir=", "experiment=", "tuning_id=", "dataset=", "storage")
    place = [text for text in arguments.repeated(HydraConfig.get()) if text.lstrip("+").startswith(places)]
    dashboard = shlex.join(["python", "-m", "codes.dashboard", *place])
    look = f"look at it in a browser (needs the extra `dashboard`)\n  {dashboard}\n"
    lasts = config.storage.backend != "memory"
    return f"{again}{look if lasts else ''}\n{in_words(findings)}\nreport  {paths[-1]}"


def known(config: DictConfig, layers: Sequence["Layer"]) -> dict[str, DictConfig]:
    """Configurations that are tried first: what was composed of ``layers``, and the same without tuned values."""
    composed = {"the composed configuration": config}
    is_tuned = any(file.startswith("optimal/") and file != "optimal/off.yaml" for file, _ in layers)
    if not is_tuned or config.fine is not None:  # that is the centre of the ranges; what is not tuned lies outside
        return composed
    job = HydraConfig.get()
    overrides = [text for text in arguments.typed(job) if not text.startswith("optimal=")]
    return {**composed, "the same with optimal=off": hydra.compose(job.job.config_name, [*overrides, "optimal=off"])}


if __name__ == "__main__":
    cli.run(main)
