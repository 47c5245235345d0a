"""Tune one surrogate on one dataset: an Optuna study whose trials are trainings, resumed by the same command.

``python tune.py --help`` shows the choices. Everything heavy is imported once a study starts.
"""

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from codes import cli, resolvers, schema

schema.register()
resolvers.register()


@hydra.main(config_path="conf", config_name="tune", execution_whitelist=["codes.callbacks.*"])
def main(config: DictConfig) -> dict[str, str]:
    """Run the study that was composed; its trials are those of ``train.py``. Returns its row in a multirun's table."""
    from codes.tuning.stages import narrow
    from codes.tuning.study import run_study

    if config.fine is not None:  # search_space=fine
        narrow(config, prepare)
    return run_study(
        config,
        runner="train:run_trial",
        prepare=prepare,
        warm_up="train:warm_up",
        overrides=HydraConfig.get().overrides.task,
    )


def prepare(config: DictConfig) -> None:
    """Make or fetch the data once, before several workers ask for it; conditions may look at its parameters."""
    from codes.data import locate, read_spec

    dataset: schema.DatasetConfig = OmegaConf.to_object(config.dataset)  # type: ignore[assignment]
    config.dataset.n_parameters = read_spec(locate(dataset)).n_parameters


if __name__ == "__main__":
    cli.run(main)
