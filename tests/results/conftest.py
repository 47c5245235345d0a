"""Studies of trainings that take no time, which tests of reports look at."""

import pytest

from codes.results.opening import opened_study
from codes.results.report.findings import read
from codes.tuning.study import run_study
from tests.tuning.studies import RUNNERS, composed


@pytest.fixture(scope="session")
def studies(tmp_path_factory):
    """Where two studies are, one of a single objective and with failures, one of two objectives."""
    folder = tmp_path_factory.mktemp("reports")
    fixed = [f"storage.path={folder}/study.db", "devices=[cpu,cpu]", "pruner=none", "sampler=random"]
    run_study(composed(folder, *fixed, f"output_dir={folder}/MultiONet", "trials=14"), RUNNERS + "hostile")
    other = [f"output_dir={folder}/LatentPoly", "surrogate=LatentPoly", "objective=dual", "trials=40"]
    run_study(composed(folder, *fixed, *other, whole_space=True), RUNNERS + "conditional")
    return folder


@pytest.fixture
def dual(studies):
    """The study of two objectives, with conditional parameters."""
    where = ["surrogate=LatentPoly", f"storage.path={studies}/study.db", f"output_dir={studies}/LatentPoly"]
    with opened_study(where) as kept:
        yield read(kept)
