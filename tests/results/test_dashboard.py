"""optuna-dashboard on a study's storage."""

import shlex
import signal
import socket
import subprocess
import sys
from urllib.request import urlopen

import pytest

from codes.dashboard import main
from codes.errors import UserError
from codes.results.opening import compose_tune
from codes.tuning.study import run_study
from tests.command import ROOT, SMALL, run
from tests.tuning.studies import RUNNERS, composed, until


def answer(address):
    """What a server says, None before it listens."""
    try:
        with urlopen(address, timeout=5) as response:
            return response.read().decode()
    except OSError:
        return None


def interrupted(process):
    """Whether Ctrl-C ends it; the standard library's server swallows one that comes in the midst of an answer."""
    process.send_signal(signal.SIGINT)
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        return False
    return True


def served(*arguments):
    """The studies that the dashboard says it has, and what it prints until Ctrl-C."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "codes.dashboard", *arguments, f"port={port}"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            studies = until(lambda: answer(f"http://127.0.0.1:{port}/api/studies"))
        finally:
            until(lambda: interrupted(process))
        printed, _ = process.communicate(timeout=30)
    assert f"http://127.0.0.1:{port}/" in printed
    return studies, printed


def test_it_serves_the_studies_of_the_storage(tmp_path):
    run_study(composed(tmp_path, "trials=2", "pruner=none"), RUNNERS + "quadratic")
    studies, _ = served(f"storage.path={tmp_path}/study.db")
    assert "robertson_MultiONet" in studies


def test_a_port_that_is_none(tmp_path):
    with pytest.raises(UserError, match="port must be an integer from 1 to 65535, but is 'x'"):
        main({"port": "x"}, [])


def test_what_tune_suggests_leads_to_its_study(tmp_path, monkeypatch):
    """Also where an experiment says what it is called."""
    file = tmp_path / "conf/experiment/own.yaml"
    file.parent.mkdir(parents=True)
    file.write_text("# @package _global_\ntuning_id: own\n")
    typed = ["--config-dir=conf", "+experiment=own", "trials=1", "pruner=none"]
    ended = run("tune.py", *typed, *SMALL, folder=tmp_path)
    (suggested,) = [line for line in ended.stdout.splitlines() if "codes.dashboard" in line]
    monkeypatch.chdir(tmp_path)
    assert compose_tune(shlex.split(suggested)[3:]).tuning_id == "own"
