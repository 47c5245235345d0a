"""What tests of search spaces start from."""

import pytest
from omegaconf import OmegaConf

from tests.tuning.studies import composed


@pytest.fixture(scope="module")
def base():
    """A config without a search space."""
    config = composed("unused", "surrogate=MultiONet", "dataset=robertson", "optimal=off")
    OmegaConf.set_struct(config, False)
    return config
