"""A folder is that of one study."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from codes.errors import UserError
from codes.schema import StorageConfig
from codes.tuning.study import run_study
from tests.tuning.settling import begin, settle
from tests.tuning.studies import RUNNERS, composed


def test_models_of_a_study_in_another_storage_are_not_written_over(tmp_path):
    run_study(composed(tmp_path, "trials=1", "pruner=none"), RUNNERS + "quadratic")
    (model,) = (tmp_path / "out/models").glob("*/*")
    before = model.stat().st_mtime_ns
    elsewhere = composed(tmp_path, f"storage.path={tmp_path}/other.db", "trials=1", "pruner=none")
    with pytest.raises(UserError, match=r"which another study has taken, .*models away"):
        run_study(elsewhere, RUNNERS + "quadratic")
    assert model.stat().st_mtime_ns == before


def test_two_studies_that_begin_at_once_do_not_share_a_folder(tmp_path):
    """Of two storages, as of two hosts, before either has a model."""
    begin(tmp_path, trials=0)
    elsewhere = composed(tmp_path, f"storage.path={tmp_path}/other.db", whole_space=True)
    with pytest.raises(UserError, match="which another study has taken") as error:
        settle(elsewhere)
    assert settle(composed(tmp_path, whole_space=True)).name == "robertson_MultiONet"  # whose it is
    Path(str(error.value).rpartition("move ")[2].removesuffix(" away")).unlink()
    assert settle(elsewhere)
    moved = composed(tmp_path, f"storage.path={tmp_path}/other.db", f"output_dir={tmp_path}/new", whole_space=True)
    assert settle(moved) and settle(elsewhere) and settle(moved)  # as long as it has no trials
    in_memory = composed(tmp_path, f"output_dir={tmp_path}/memory", whole_space=True)
    in_memory.storage = OmegaConf.structured(StorageConfig("memory"))
    assert settle(in_memory) and settle(in_memory)
