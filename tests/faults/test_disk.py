"""Disks that fill."""

import csv
import os
import subprocess
import sys
import uuid

import pytest

import codes
from tests.command import ROOT, SMALL
from tests.test_cli import in_namespace
from tests.tuning.studies import RUNNERS


@pytest.mark.slow
def test_a_disk_that_fills_while_models_are_saved_stops_the_study_until_there_is_room(tmp_path):
    (tmp_path / "outputs").mkdir()
    prefix = in_namespace(f"mount -t tmpfs -o size=250k tmpfs {tmp_path}/outputs")
    script = '! "$@" 2> first && mount -o remount,size=50m outputs && "$@" && cp -r outputs kept'
    study = ["surrogate=FullyConnected", "trials=5", "pruner=none", "keep_models=null", "devices=[cpu]", "optimal=off"]
    study += ["search_space={hidden_size: {low: 100, high: 110}}", f"storage.path={tmp_path}/study.db"]
    command = [*prefix, "sh", "-c", script, "sh", sys.executable, str(ROOT / "tune.py"), *SMALL, *study]
    environment = {**os.environ, "CODES_DATA_DIR": str(tmp_path / "data"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    error = (tmp_path / "first").read_text()
    assert "Traceback" not in error and "No space left on device: 'outputs/tuned" in error
    folder = next((tmp_path / "kept/tuned").glob("*/*/trials.csv")).parent
    with (folder / "trials.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert sum(row["outcome"] == "complete" for row in rows) == 5 < len(rows)
    listed = [row["model"] for row in rows if row["model"]]
    assert len(listed) == 5
    for model in listed:
        codes.load(folder / model)


FILL = """
"$@" trials=1000 2> first &
until [ -e out/models/2 ]; do kill -0 $! && sleep 0.02; done
dd if=/dev/zero of=small/filler bs=4k 2> /dev/null
wait $! && exit 1
rm small/filler
echo $(($(ls out/models | wc -l) + 3)) > asked
"$@" trials=$(cat asked)
"""


@pytest.mark.slow
@pytest.mark.parametrize("storage", ["journal", "postgres", "sqlite"])
def test_a_disk_that_fills_while_the_database_writes_stops_the_study_until_there_is_room(storage, open_folder, request):
    if storage == "postgres":
        request.getfixturevalue("binaries")
    folder = open_folder / uuid.uuid4().hex
    (folder / "small").mkdir(parents=True)
    place = f"storage.data_dir={folder}/small/server" if storage == "postgres" else f"storage.path={folder}/small/study"
    study = [str(folder), f"{RUNNERS}quadratic", f"storage={storage}", place, "keep_models=null", "pruner=none"]
    prefix = in_namespace(f"mount -t tmpfs -o size=80m,mode=755 tmpfs {folder}/small && cd {folder}")
    command = [*prefix, "sh", "-c", FILL, "sh", sys.executable, "-m", "tests.tuning", *study]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    error = (folder / "first").read_text()
    assert "Traceback" not in error and ("No space left on device" in error or "disk is full" in error)
    with (folder / "out/trials.csv").open() as file:
        rows = list(csv.DictReader(file))
    complete = [row for row in rows if row["outcome"] == "complete"]
    assert len(complete) == int((folder / "asked").read_text())
    assert {row["outcome"] for row in rows} <= {"complete", "crashed", "interrupted"}
    assert all((folder / "out" / row["model"] / "device").exists() for row in complete)
