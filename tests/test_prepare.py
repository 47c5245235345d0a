"""What ``tune.py`` refuses once it knows the data, before a study is there."""

import numpy as np
import pytest
from omegaconf import OmegaConf

import tune
from codes.data import load_data, write_dataset
from codes.errors import UserError
from codes.training.mean_trajectory import mean_errors
from tests.tuning.studies import composed


@pytest.fixture
def data(tmp_path):
    """What names a dataset of two timesteps, and a surrogate that has second differences."""
    rng = np.random.default_rng(0)
    path = write_dataset(tmp_path / "two.h5", *(rng.uniform(1, 2, (6, 2, 2)) for _ in range(3)))
    return ["dataset=hdf5", f"dataset.path={path}", "surrogate=LatentPoly"]


def test_a_surrogate_that_does_not_go_with_the_data_is_refused(data, tmp_path):
    tune.prepare(composed(tmp_path, *data, whole_space=True))
    with pytest.raises(UserError, match=r"surrogate\.curvature_weight: must be 0 .* but got 0\.1"):
        tune.prepare(composed(tmp_path, *data, "surrogate.curvature_weight=0.1"))


@pytest.mark.parametrize("entry", [{"low": 0.0, "high": 0.1}, {"choices": [0.0, 0.1]}])
def test_so_is_a_search_space_that_makes_one(entry, data, tmp_path):
    config = composed(tmp_path, *data)
    OmegaConf.update(config, "search_space.curvature_weight", entry, force_add=True)
    rule = r"search_space\.curvature_weight: surrogate\.curvature_weight: must be 0 .* but got 0\.1; leave it out"
    with pytest.raises(UserError, match=rule):
        tune.prepare(config)
    OmegaConf.update(config, "search_space.curvature_weight.when", False, force_add=True)
    tune.prepare(config)


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ([], ["lae99"]),
        (["objective.metrics=[inference_time,mae,mse]"], ["mae", "mse"]),
        (["objective=dual"], ["lae99"]),
    ],
)
def test_what_the_objectives_must_beat_is_told(changes, names, data, tmp_path):
    config = composed(tmp_path, *data, "surrogate=FullyConnected", *changes)
    loaded = load_data(OmegaConf.to_object(config.dataset))
    errors = mean_errors(loaded, loaded.test, 99)
    assert tune.prepare(config) == ", ".join(f"{name} {errors[name]:.4g}" for name in names)
