"""Jobs of a multirun: a device for each process, nothing left of a job that has ended, one table of what came out."""

import os
import re
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.types import RunMode
from omegaconf import OmegaConf

from codes import resolvers, schema
from codes.callbacks import DeviceSlots, number_of_jobs, parse
from codes.device import resolve_device
from codes.errors import UserError
from tests.command import ROOT, SMALL, run

JOB = """
import sys
from pathlib import Path
from hydra.types import RunMode
from omegaconf import OmegaConf
from codes.callbacks import DeviceSlots

slots = DeviceSlots()
slots.folder = Path(sys.argv[1])
job = {"hydra": {"mode": RunMode.MULTIRUN}, "devices": sys.argv[2:], "device": "${device_slot:}"}
for config in map(OmegaConf.create, (job, job)):
    slots.on_job_start(config)
    print(config.device, flush=True)
sys.stdin.read()
"""

APP = """
import multiprocessing
import sys
import time
import hydra

@hydra.main(config_path=None)
def main(config):
    process = multiprocessing.Process(target=time.sleep, args=(10_000,))
    process.start()
    print("started", process.pid, "with", len(multiprocessing.active_children()), flush=True)
    raise {"error": ValueError, "interrupt": KeyboardInterrupt}[config.ends_by]

if __name__ == "__main__":  # the process may not be a fork, and then imports this
    main()
"""

SLEEPER = """
import os
import time
import hydra

@hydra.main(config_path=None)
def main(config):
    print("job in", os.getpid(), flush=True)
    time.sleep(10_000)

main()
"""


@pytest.fixture
def jobs(tmp_path):
    """Starts processes that run two jobs each on two made-up GPUs, and live on; devices of the jobs."""
    with ExitStack() as stack:

        def start():
            command = [sys.executable, "-c", JOB, str(tmp_path), "cuda:0", "cuda:1"]
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
            process = stack.enter_context(subprocess.Popen(command, cwd=ROOT, **pipes))
            stack.callback(process.kill)
            return process, [process.stdout.readline().strip() for _ in range(2)]

        yield start


def test_a_process_keeps_its_slot_until_it_dies(jobs):
    (first, zero), (_, one), (_, two) = jobs(), jobs(), jobs()
    assert (zero, one, two) == (["cuda:0"] * 2, ["cuda:1"] * 2, ["cuda:0"] * 2)  # one more than there are devices
    first.kill()
    first.wait()
    assert [jobs()[1], jobs()[1]] == [["cuda:0"] * 2, ["cuda:1"] * 2]  # slot 0 is free again, then comes slot 3


@pytest.mark.parametrize(("has_folder", "devices"), [(False, ["cpu", "cpu"]), (True, [])])
def test_a_job_that_gets_no_slot_is_refused_its_device(has_folder, devices, monkeypatch, tmp_path):
    """The folder could not be made, or there are no devices: Hydra only warns of what the callback raises."""
    monkeypatch.setenv(resolvers.DEVICE_SLOT_VARIABLE, "cpu")
    resolvers.register()
    job = {"hydra": {"mode": RunMode.MULTIRUN}, "devices": devices, "device": "${device_slot:}"}
    config, slots = OmegaConf.create(job), DeviceSlots()
    slots.folder = tmp_path if has_folder else None
    with pytest.raises((AssertionError, ZeroDivisionError)):
        slots.on_job_start(config)
    with pytest.raises(UserError, match="none of"):
        resolve_device(config.device)


@pytest.mark.parametrize("ends_by", ["error", "interrupt"])
def test_no_process_outlives_its_job(ends_by, tmp_path):
    script = tmp_path / "app.py"
    script.write_text(APP)
    callback = "+hydra.callbacks.workers._target_=codes.callbacks.WorkerProcesses"
    command = [sys.executable, str(script), "-m", f"+ends_by={ends_by}", "+job=1,2", callback]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert result.returncode != 0
    started = re.findall(r"started (\d+) with (\d)", result.stdout)
    assert [count for _, count in started] == ["1"] * (2 if ends_by == "error" else 1), result.stderr
    for pid, _ in started:
        with pytest.raises(ProcessLookupError):
            os.kill(int(pid), 0)
        assert f"process {pid} was left by this job and is ended" in result.stdout


@pytest.mark.parametrize("name", ["DeviceSlots", "Summary"])
def test_no_parallel_job_outlives_its_multirun(name, tmp_path):
    script = tmp_path / "app.py"
    script.write_text(SLEEPER)
    arguments = ["-m", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "+devices=[cpu]", "+job=1,2"]
    noun = ", noun: job" if name == "Summary" else ""
    callback = f"+hydra.callbacks.one={{_target_: codes.callbacks.{name}{noun}}}"
    command = [sys.executable, str(script), *arguments, callback]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True) as multirun:
        lines = (line for line in multirun.stdout if line.startswith("job in "))
        pids = {next(lines) for _ in range(2)}
        assert len(pids) == 2
        multirun.kill()
        assert not list(lines)  # the pipe ends when nobody has it open any more


@pytest.mark.parametrize(
    ("overrides", "jobs"),
    [
        (["seed=1"], 1),
        (["surrogate=MultiONet,LatentPoly", "seed=range(1,4)", "trainer.epochs=5"], 6),
        (["surrogate=glob(Latent*)"], 2),
        (["seed=1,2", "hydra/sweeper=optuna"], None),
    ],
    ids=str,
)
def test_the_number_of_jobs_is_the_sweepers(overrides, jobs):
    schema.register()
    resolvers.register()
    with initialize_config_dir(str(ROOT / "conf")):
        chosen = [text for text in overrides if text.startswith("hydra")]
        sweeper = compose("train", overrides=chosen, return_hydra_config=True).hydra.sweeper
        assert number_of_jobs(sweeper, parse([text for text in overrides if text not in chosen])) == jobs


def table(text: str, first: str, second: str) -> dict[str, list[str]]:
    """Rows of the last table with these columns first: by their first cell, the others."""
    *_, heading = re.finditer(rf"^  {first} +{second} .*\n", text, re.MULTILINE)
    lines = text[heading.end() :].partition("\n\n")[0].splitlines()
    rows = [re.split(r"  +", line.strip()) for line in lines]
    return {cells[0]: cells[1:] for cells in rows}


@pytest.mark.slow
def test_parallel_jobs_have_slots_of_their_own(tmp_path):
    """Slot 1 is taken only while another process holds slot 0."""
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    shared = Path("/dev/shm")
    before = set(shared.glob("sem.loky-*")) if shared.exists() else set()
    arguments = ["-m", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "seed=1,2,3", "devices=[cpu,auto]"]
    result = run("train.py", *arguments, *SMALL, folder=tmp_path, TMPDIR=str(temporary), CODES_DATA_DIR=str(tmp_path))
    assert result.returncode == 0, result.stderr
    logs = [path.read_text() for path in tmp_path.glob("outputs/trained/*/*/train.log")]
    slots = [re.findall(r"slot (\d), device (\S+)", log) for log in logs]
    assert sorted(map(len, slots)) == [1, 1, 1]
    assert {number for ((number, _),) in slots} == {"0", "1"}
    assert {device for ((number, device),) in slots if number == "0"} == {"cpu"}
    rows = table(result.stdout, "job", "lae99")
    assert set(rows) == {"seed=1", "seed=2", "seed=3"}
    assert len({lae99 for lae99, _ in rows.values()}) == 3
    assert all((tmp_path / folder / "model.safetensors").exists() for _, folder in rows.values())
    assert not list(temporary.glob("codes-multirun-*"))
    left = (set(shared.glob("sem.loky-*")) if shared.exists() else set()) - before
    assert all(Path("/proc", path.name.split("-")[1]).exists() for path in left)  # of other tests' processes


@pytest.mark.slow
def test_studies_side_by_side(tmp_path):
    """Each in a process of its own, which starts its worker as it would alone."""
    arguments = ["-m", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "surrogate=FullyConnected,LatentPoly"]
    result = run(
        "tune.py", *arguments, "trials=1", "pruner=none", *SMALL, folder=tmp_path, CODES_DATA_DIR=str(tmp_path)
    )
    assert result.returncode == 0, result.stderr
    studies = re.findall(r"robertson_(\w+) +(\d/\d)", result.stdout.rpartition("study  ")[2])
    assert sorted(studies) == [("FullyConnected", "1/1"), ("LatentPoly", "1/1")]


@pytest.mark.slow
def test_the_table_of_all_studies_also_when_one_fails(tmp_path):
    degree = "++search_space.degree={type: int, low: 1, high: 2}"  # only LatentPoly has one
    arguments = ["trials=1", "pruner=none", degree, *SMALL]
    command = ["tune.py", "-m", "surrogate=FullyConnected,LatentPoly", *arguments]
    result = run(*command, folder=tmp_path, CODES_DATA_DIR=str(tmp_path))
    assert result.returncode == 1
    assert "study 2 of 2: surrogate=LatentPoly" in result.stdout
    failure, folder = table(result.stdout, "study", "failure")["surrogate=FullyConnected"]
    assert "degree" in failure
    assert folder == "outputs/tuned/robertson/FullyConnected"
    studies = table(result.stdout, "study", "valid")
    ((name, (valid, best, *_)),) = studies.items()
    assert (name, valid) == ("robertson_LatentPoly", "1/1")
    assert re.fullmatch(r"lae99 [\d.]+", best)
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix != ".h5") == ["outputs"]

    again = run("tune.py", "-m", "surrogate=LatentPoly", *arguments, folder=tmp_path, CODES_DATA_DIR=str(tmp_path))
    assert again.returncode == 0, again.stderr
    assert table(again.stdout, "study", "valid") == studies
