"""Data that are replaced while their study runs or rests."""

import numpy as np
import pytest

from codes.data import write_dataset
from codes.errors import UserError
from codes.tuning.fidelity import ConfigChanged
from codes.tuning.study import run_study
from tests.command import module, run
from tests.tuning.studies import RUNNERS, composed, outcomes
from tune import prepare


@pytest.fixture
def own_data(tmp_path):
    """Config of a study on a file of the user's, and a second file of the same shape."""
    rng = np.random.default_rng(0)
    for name in ("mine", "other"):
        splits = [rng.uniform(1, 2, (4, 5, 2)) for _ in range(3)]
        write_dataset(tmp_path / f"{name}.h5", *splits, timesteps=np.arange(5.0), labels=["a", "b"])
    own = ["dataset=hdf5", f"dataset.path={tmp_path}/mine.h5", "study_name=robertson_MultiONet", "pruner=none"]
    (tmp_path / "out").mkdir()
    return lambda *more: composed(tmp_path, *own, "trials=3", "max_invalid=2", *more)


@pytest.mark.slow
def test_a_data_file_that_is_replaced_during_the_study_is_never_mixed_with_the_first(own_data, tmp_path):
    first = (tmp_path / "mine.h5").read_bytes()
    (tmp_path / "other.h5").rename(tmp_path / "out/other.h5")
    with pytest.raises(UserError, match=r"mine\.h5: has been replaced since the study was started"):
        run_study(own_data(), RUNNERS + "replacing_the_data", prepare=prepare)
    assert outcomes(tmp_path)["complete"] == 1
    with pytest.raises(ConfigChanged, match=r"dataset\.content"):
        run_study(own_data(), RUNNERS + "replacing_the_data", prepare=prepare)
    (tmp_path / "mine.h5").write_bytes(first)
    run_study(own_data(), RUNNERS + "replacing_the_data", prepare=prepare)
    assert outcomes(tmp_path)["complete"] == 3


@pytest.mark.slow
def test_a_data_file_that_goes_during_the_study_ends_it(own_data, tmp_path):
    with pytest.raises(UserError, match=r"mine\.h5: is gone since the study was started"):
        run_study(own_data(), RUNNERS + "replacing_the_data", prepare=prepare)
    assert outcomes(tmp_path) == {"complete": 1, "crashed": 1, "failed": 1}


@pytest.mark.slow
def test_every_command_finds_a_data_file_that_was_moved(own_data, tmp_path):
    """Before the study itself has gone on from the new place; a file with other content is refused there too."""
    (tmp_path / "new").mkdir()
    study = ["dataset=hdf5", "tuning_id=mine", "surrogate=FullyConnected"]
    small = ["trainer.epochs=2", "trainer.latency_repeats=2", "pruner=none", "devices=[cpu]"]
    first = run("tune.py", *study, *small, "trials=1", f"dataset.path={tmp_path}/mine.h5", folder=tmp_path)
    assert first.returncode == 0, first.stderr
    (tmp_path / "mine.h5").rename(tmp_path / "new/mine.h5")

    moved = f"dataset.path={tmp_path}/new/mine.h5"
    for place, message in (("mine.h5", "is gone since"), ("other.h5", "has been replaced since")):
        refused = module("codes.certify", *study, f"dataset.path={tmp_path}/{place}", "seeds=[1]", folder=tmp_path)
        assert refused.returncode == 1 and message in refused.stderr
    certified = module("codes.certify", *study, moved, "seeds=[1]", "rounds=10", folder=tmp_path)
    assert certified.returncode == 0, certified.stderr

    second = run("tune.py", *study, *small, "trials=2", moved, folder=tmp_path)
    assert second.returncode == 0, second.stderr
    assert "changed, without an effect on trials: dataset.path" in second.stdout and "2/2 valid" in second.stdout
