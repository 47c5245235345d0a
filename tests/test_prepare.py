"""What ``tune.py`` refuses once it knows the data, before a study is there."""

import numpy as np
import pytest
from omegaconf import OmegaConf

import tune
from codes.data import write_dataset
from codes.errors import UserError
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
