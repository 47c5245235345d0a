"""The shipped facts: public datasets, published hyperparameters, named studies. Every config file composes."""

import functools
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from codes import resolvers, schema

CONF = Path(__file__).parents[1] / "conf"
PUBLIC = {
    "branca24",
    "branca_large_kyr",
    "branca_large_myr",
    "branca_norad",
    "cloud",
    "cloud_parametric",
    "coupled_oscillators",
    "lotka_volterra",
    "lv_parametric",
    "lv_parametric_no_params",
    "osu2008",
    "primordial",
    "primordial_parametric",
    "simple_ode",
    "simple_primordial",
    "simple_reaction",
}
GENERATED_TOO = {"coupled_oscillators", "lotka_volterra", "lv_parametric"}
DATASETS = sorted(path.stem for path in (CONF / "dataset").glob("*.yaml"))
SURROGATES = sorted(path.stem for path in (CONF / "surrogate").glob("*.yaml"))
OPTIMA = sorted(path.relative_to(CONF / "optimal") for path in (CONF / "optimal").glob("*/*.yaml"))


@pytest.fixture(scope="module", autouse=True)
def hydra():
    schema.register()
    resolvers.register()
    with initialize_config_dir(str(CONF)):
        yield


@functools.cache  # nobody changes a config here
def composed(script: str, *overrides: str) -> DictConfig:
    config = compose(script, overrides=list(overrides))
    OmegaConf.to_container(config, resolve=True)
    return config


@pytest.mark.parametrize("script", ["train", "tune"])
@pytest.mark.parametrize("dataset", DATASETS)
def test_every_dataset_composes(dataset, script):
    assert composed(script, f"dataset={dataset}").dataset.name == dataset


def test_every_public_dataset_has_its_source():
    urls = {name: composed("train", f"dataset={name}").dataset.url for name in DATASETS}
    assert {name for name, url in urls.items() if url} == PUBLIC
    assert all(urls[name].startswith("https://zenodo.org/records/") for name in PUBLIC)
    assert len({urls[name] for name in PUBLIC}) == len(PUBLIC)


def test_public_datasets_are_downloaded_unless_they_can_be_generated():
    sources = {name: composed("train", f"dataset={name}").dataset.source for name in PUBLIC}
    assert {name for name, source in sources.items() if source == "generate"} == GENERATED_TOO
    assert {name for name, source in sources.items() if source == "download"} == PUBLIC - GENERATED_TOO


def test_optima_belong_to_a_dataset_and_a_surrogate():
    assert {path.parent.name for path in OPTIMA} <= PUBLIC
    assert {path.stem for path in OPTIMA} == set(SURROGATES)
    assert len(OPTIMA) == 38


@pytest.mark.parametrize("path", OPTIMA, ids=str)
def test_published_optimum_is_used_by_default(path):
    published = OmegaConf.load(CONF / "optimal" / path)
    used = composed("train", f"dataset={path.parent}", f"surrogate={path.stem}").surrogate
    assert {key: used[key] for key in published} == published


@pytest.mark.parametrize("surrogate", SURROGATES)
def test_optimum_can_be_switched_off_and_overridden(surrogate):
    choice = "dataset=cloud", f"surrogate={surrogate}"
    defaults = composed("train", "dataset=hdf5", f"surrogate={surrogate}").surrogate
    assert composed("train", *choice).surrogate != defaults
    assert composed("train", *choice, "optimal=off").surrogate == defaults
    assert composed("train", *choice, "surrogate.learning_rate=0.25").surrogate.learning_rate == 0.25


def test_optima_are_the_published_numbers():
    cloud = composed("train", "dataset=cloud", "surrogate=LatentNeuralODE").surrogate
    assert (cloud.learning_rate, cloud.regularization_factor, cloud.momentum) == (3.88e-05, 3.41, 0.143)
    assert (cloud.activation, cloud.optimizer, cloud.scheduler, cloud.poly_power) == ("SiLU", "sgd", "poly", 3.43)
    assert (cloud.latent_features, cloud.coder_layers, cloud.coder_width) == (1, 8, 80)
    primordial = composed("train", "dataset=primordial_parametric", "surrogate=LatentPoly").surrogate
    assert primordial.coder_layers == 1
    assert primordial.coder_layers is not True


def test_primordial_experiment_is_the_dual_objective_study():
    config = composed("tune", "+experiment=primordial")
    assert config.dataset.name == "primordial"
    assert config.surrogate.name == "MultiONet"
    assert config.objective.metrics == ["lae99", "inference_time"]
    assert (config.trainer.batch_size, config.trainer.epochs) == (4096, 8192)
    assert (config.trials, config.sampler.population_size) == (120, 50)
    assert config.sampler._target_.endswith("NSGAIISampler")
    assert config.pruner._target_.endswith("NopPruner")
    assert config.search_space == {
        "activation": {"type": "categorical", "choices": ["ReLU", "LeakyReLU", "Tanh", "GELU", "Softplus"]},
        "hidden_size": {"type": "int", "low": 10, "high": 500},
        "learning_rate": {"type": "float", "low": 1e-6, "high": 1e-3, "log": True},
        "output_factor": {"type": "int", "low": 1, "high": 200},
    }


def test_quickstart_names_the_first_command():
    assert composed("tune", "+experiment=quickstart") == composed("tune", "surrogate=MultiONet", "storage=sqlite")


@pytest.mark.parametrize("experiment", sorted(path.stem for path in (CONF / "experiment").glob("*.yaml")))
def test_command_line_wins_over_an_experiment(experiment):
    assert composed("tune", f"+experiment={experiment}", "trials=3", "trainer.epochs=8").trainer.epochs == 8
