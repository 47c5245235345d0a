"""Studies on a GPU: two slots on one, and a kill. Skipped where there is none."""

import csv
import os
import signal
import subprocess
import sys

import pytest
import torch

from tests.command import ROOT, SMALL, run
from tests.tuning.studies import until

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")]
STUDY = ["surrogate=FullyConnected", "devices=[cuda:0,cuda:0]", "dataset=lotka_volterra", *SMALL]


@pytest.mark.parametrize("population", [1, 3])
def test_two_slots_on_one_gpu_finish_a_study(population, tmp_path):
    ended = run("tune.py", *STUDY, "trials=6", "trainer.epochs=30", f"slot.population={population}", folder=tmp_path)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    (table,) = tmp_path.rglob("trials.csv")
    rows = list(csv.DictReader(table.open()))
    assert {row["device"] for row in rows} == {"cuda:0"}
    assert sum(row["outcome"] in ("complete", "pruned") for row in rows) == 6


def test_no_memory_of_the_gpu_outlives_a_killed_study(tmp_path):
    free = torch.cuda.mem_get_info()[0]
    command = [sys.executable, str(ROOT / "tune.py"), *STUDY, "trials=50", "trainer.epochs=1000000"]
    pipe = subprocess.DEVNULL
    study = subprocess.Popen(command, cwd=tmp_path, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True)
    try:
        until(lambda: torch.cuda.mem_get_info()[0] < free - 2 * 2**28, seconds=120)  # two contexts of CUDA
        os.kill(study.pid, signal.SIGKILL)
        study.wait()
        until(lambda: torch.cuda.mem_get_info()[0] > free - 2**26)
    finally:
        study.kill()
