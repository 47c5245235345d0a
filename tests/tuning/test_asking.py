"""Whether to go on is asked at a terminal, and nowhere else."""

import os
import pty
import shlex
import subprocess
import sys

import pytest

from codes.tuning.ledger import outcome_of
from codes.tuning.outcomes import VALID
from tests.tuning.settling import SPACE, begin, everything_in
from tests.tuning.studies import ROOT, RUNNERS, launch, study_in


def in_a_terminal(folder, *overrides, answers=(), background=False):
    """Exit code and output of a launch in a terminal of its own, where every prompt gets the next answer."""
    command = [sys.executable, "-m", "tests.tuning", str(folder), RUNNERS + "quadratic", *overrides]
    if background:
        command = ["bash", "-c", f"set -m; {shlex.join(command)} & wait $!"]
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(ROOT)
        os.execvp(command[0], command)
    output, left = b"", list(answers)
    while True:
        try:
            chunk = os.read(terminal, 4096)
        except OSError:  # on Linux, the other end is closed
            chunk = b""
        if not chunk:
            break
        output += chunk
        if output.count(b"[abort] ") > len(answers) - len(left):
            os.write(terminal, left.pop(0))
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), output.decode().replace("\r\n", "\n")


@pytest.mark.slow
def test_a_terminal_is_asked(tmp_path):
    begin(tmp_path, trials=4, whole_space=False)
    before = everything_in(tmp_path)
    for answers in ([b"what\n", b"\x04"], [b"\x03"]):
        code, output = in_a_terminal(tmp_path, f"{SPACE}.high=0.1", answers=answers)
        assert code == 2 and f"{SPACE}.high  0.01    0.1  compatible" in output
        assert everything_in(tmp_path) == before
    code, output = in_a_terminal(tmp_path, f"{SPACE}.high=0.1", "trials=6", answers=[b"r\n"])
    assert code == 0 and "4 trials are taken over, 0 are left out" in output
    assert sum(outcome_of(trial) in VALID for trial in study_in(tmp_path).trials) == 6


@pytest.mark.slow
def test_nobody_is_asked_who_cannot_answer(tmp_path):
    begin(tmp_path, trials=2, whole_space=False)
    waiting = launch(tmp_path, "quadratic", "seed=1", stdin=subprocess.PIPE)  # nothing is ever written
    assert waiting.wait(timeout=60) == 2
    assert "on_config_change=overwrite" in waiting.communicate()[1]
    code, output = in_a_terminal(tmp_path, "seed=1", background=True)
    assert code == 2 and "[abort]" not in output


@pytest.mark.slow
def test_nobody_is_asked_who_has_decided(tmp_path):
    begin(tmp_path, trials=2, whole_space=False)
    code, output = in_a_terminal(tmp_path, "seed=1", "on_config_change=abort")
    assert code == 2 and "[abort]" not in output and "Nothing was changed." in output
    assert output.count("was started with another configuration") == 1
