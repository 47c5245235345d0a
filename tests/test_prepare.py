"""What ``tune.py`` refuses once it knows the data, before a study is there."""

import numpy as np
import pytest

import tune
from codes.data import write_dataset
from codes.errors import UserError
from tests.tuning.studies import composed


def test_a_surrogate_that_does_not_go_with_the_data_is_refused(tmp_path):
    rng = np.random.default_rng(0)
    path = write_dataset(tmp_path / "two.h5", *(rng.uniform(1, 2, (6, 2, 2)) for _ in range(3)))
    data = ["dataset=hdf5", f"dataset.path={path}", "surrogate=LatentPoly"]
    tune.prepare(composed(tmp_path, *data))
    with pytest.raises(UserError, match=r"surrogate\.curvature_weight: must be 0 .* but got 0\.1"):
        tune.prepare(composed(tmp_path, *data, "surrogate.curvature_weight=0.1"))
