"""The memory that a training will need, against what it takes, and against real limits."""

import os
import resource
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from codes import memory
from codes.errors import TooLarge
from codes.memory import PeakMemory, available, give_back
from codes.training import speed_up, train, train_population
from codes.training.footprint import LIBRARIES, MARGIN, MIB, ample, check_fits, footprint
from tests.command import ROOT
from tests.training import example

LARGE = {
    "MultiONet": ["trainer.batch_size=600", "surrogate.hidden_size=1500"],
    "FullyConnected": ["trainer.batch_size=600", "surrogate.hidden_size=3500", "surrogate.num_hidden_layers=2"],
    "LatentPoly": ["trainer.batch_size=24", "surrogate.coder_width=3500", "surrogate.coder_layers=2"],
    "LatentNeuralODE": ["trainer.batch_size=24", "surrogate.ode_width=400", "surrogate.coder_width=2500"],
}


@pytest.mark.skipif(sys.platform != "linux", reason="peaks are counted on Linux")
@pytest.mark.parametrize("family", LARGE)
def test_what_is_predicted_is_what_a_training_takes(family):
    config = example.config(family, *LARGE[family], "trainer.epochs=1", "trainer.check_memory=false")
    data, peak = example.data(), PeakMemory("cpu")
    give_back()
    peak.start()
    before = peak.read()
    predicted = footprint(config, data)
    train(config, data, "cpu", progress=False)
    taken = peak.read() - before
    assert predicted > 60 * MIB  # else nothing is tested
    assert taken < 1.4 * MARGIN * predicted + LIBRARIES
    assert predicted < 1.3 * taken


@pytest.mark.parametrize("family", LARGE)
def test_a_recorded_step_keeps_its_memory_while_something_else_is_computed(family):
    config, data = example.config(family, *LARGE[family]), example.data()
    once, lasting = footprint(config, data), footprint(config, data, recorded=True)
    assert once < lasting < 2 * once


def test_predicting_draws_no_random_numbers_and_needs_no_memory():
    state = torch.get_rng_state()
    assert footprint(example.config("MultiONet", "surrogate.hidden_size=200000"), example.data()) > 2**40
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("family", LARGE)
def test_what_is_certainly_enough_is_more_than_what_is_predicted(family):
    for changes in ([], LARGE[family]):
        config = example.config(family, *changes)
        assert ample(config, example.data()) > MARGIN * footprint(config, example.data()) + LIBRARIES


def test_too_large_a_training_is_refused():
    huge = ["surrogate.hidden_size=200000"]
    with pytest.raises(TooLarge, match=r"out of memory: the training would need about \d+ MiB on cpu, where \d+ MiB"):
        train(example.config("MultiONet", *huge), example.data(), "cpu")


@pytest.mark.skipif(sys.platform != "linux", reason="what is available is known on Linux")
def test_a_stack_is_refused_of_trainings_that_would_fit_one_by_one():
    shape, data = ["FullyConnected", "surrogate.num_hidden_layers=2", "trainer.epochs=1"], example.data()
    needed = MARGIN * footprint(example.config(*shape, "surrogate.hidden_size=10000"), data)
    width = round(10000 * (0.7 * available("cpu") / needed) ** 0.5)  # of which one takes 0.7 of what is there
    config = example.config(*shape, f"surrogate.hidden_size={width}")
    check_fits(config, data, torch.device("cpu"))
    for refused in (
        lambda: next(train_population([config, config], data, "cpu")),
        lambda: speed_up(config, 2, data, "cpu"),
    ):
        with pytest.raises(TooLarge, match="out of memory: 2 trainings together would need about"):
            refused()


@pytest.mark.skipif(sys.platform != "linux", reason="limits are known on Linux")
def test_a_limit_of_address_space_is_seen():
    code = "import resource, codes.memory; size = int(open('/proc/self/statm').read().split()[0]) * 4096\n"
    code += "resource.setrlimit(resource.RLIMIT_AS, (size + 50 * 2**20,) * 2); print(codes.memory.available('cpu'))"
    seen = int(
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT).stdout
    )
    assert 45 * MIB < seen <= 50 * MIB * resource.getpagesize() // 4096
    assert seen < (available("cpu") or 0)


def test_what_a_system_does_not_say_is_no_error(tmp_path, monkeypatch):
    (tmp_path / "meminfo").write_text("MemTotal: 16 kB\nMemFree: 8 kB\n")  # of Linux before 3.14
    assert memory._of_table(tmp_path / "meminfo", "MemAvailable:") is None
    monkeypatch.setattr(memory, "_of_table", lambda path, name: None)
    monkeypatch.setattr(memory, "_cgroups", lambda: ())
    assert available("cpu") is None
    assert PeakMemory("cpu").read() > 0


@pytest.fixture
def cgroup():
    """A cgroup in which the kernel kills whoever takes more than 600 MiB."""
    places = [line.split(":", 2)[1:] for line in Path("/proc/self/cgroup").read_text().splitlines()]
    for controllers, path in places:
        limit = "memory.limit_in_bytes" if controllers == "memory" else "memory.max"
        folder = Path("/sys/fs/cgroup", controllers) / path.lstrip("/") / f"codes-{os.getpid()}"
        if controllers in ("", "memory"):
            with suppress(OSError):
                folder.mkdir()
                try:
                    (folder / limit).write_text(str(600 * MIB))
                    yield folder
                    return
                finally:
                    folder.rmdir()
    pytest.skip("needs a cgroup of its own, for which one must be root outside of a container")


@pytest.mark.slow
def test_a_training_that_would_be_killed_ends_by_itself(cgroup, tmp_path):
    """5,000 x 5,000 weights: 100 MB for each of them, their gradients, both moments and what is kept of them."""
    large = ["FullyConnected", "surrogate.hidden_size=5000", "surrogate.num_hidden_layers=2", "trainer.epochs=1"]
    ended = {}
    for check in ("true", "false"):
        child = [sys.executable, "-m", "tests.training.child", str(tmp_path), *large, f"trainer.check_memory={check}"]
        inside = ["sh", "-c", f'echo $$ > "{cgroup}/cgroup.procs" && exec "$@"', "sh", *child]
        ended[check] = subprocess.run(inside, capture_output=True, text=True, cwd=ROOT)
    assert ended["false"].returncode == -signal.SIGKILL, ended["false"].stderr
    assert "TooLarge: out of memory" in ended["true"].stderr
