"""docs/simulation.py with a small training: a surrogate and two solvers go through the same simulation."""

import re
import subprocess
import sys

import pytest

from tests.command import ROOT

ROW = re.compile(r"^(\w.*?) {2,}(\S+) +(\S+)$", re.M)


@pytest.mark.slow
def test_a_surrogate_in_a_time_stepping_loop(tmp_path):
    size = ["--cells=6", "--steps=2", "--trajectories=80", "--epochs=3", f"--folder={tmp_path}"]
    command = [sys.executable, str(ROOT / "docs/simulation.py"), *size]
    said = subprocess.run(command, capture_output=True, text=True, timeout=200, check=True).stdout
    table = said[said.index("6 cells, 2 steps") :]
    found = {name: (float(milliseconds), float(error)) for name, milliseconds, error in ROW.findall(table)}
    assert list(found) == [name for name, *_ in ROW.findall((ROOT / "docs/simulation.md").read_text())]
    assert all(milliseconds > 0 for milliseconds, _ in found.values())
    *solvers, (_, error) = found.values()
    assert all(error < 1 for _, error in solvers) and 0 < error < float("inf")
