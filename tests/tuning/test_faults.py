"""Faults of what a study stands on: its clock, its disk, its data, its stored config; and a worker that is stopped."""

import csv
import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress

import numpy as np
import pytest
from omegaconf.errors import OmegaConfBaseException

import codes
from codes.data import write_dataset
from codes.errors import UserError
from codes.tuning.changes import KEPT
from codes.tuning.fidelity import ConfigChanged
from codes.tuning.ledger import record_of
from codes.tuning.study import run_study
from tests.command import ROOT, SMALL
from tests.test_cli import in_namespace
from tests.tuning.studies import RUNNERS, composed, held_workers, hold, launch, outcomes, release, study_in
from tune import prepare

CLOCK = r"""
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

/* The system's clock, an hour late as soon as the file $CLOCK_BACK exists; the monotonic one as it is. */
int clock_gettime(clockid_t id, struct timespec *now) {
    long failed = syscall(SYS_clock_gettime, id, now);
    const char *file = getenv("CLOCK_BACK");
    if (!failed && id == CLOCK_REALTIME && file && access(file, F_OK) == 0) now->tv_sec -= 3600;
    return failed;
}
int gettimeofday(struct timeval *now, void *zone) {
    struct timespec fine;
    int failed = clock_gettime(CLOCK_REALTIME, &fine);
    now->tv_sec = fine.tv_sec, now->tv_usec = fine.tv_nsec / 1000;
    return failed;
}
time_t time(time_t *where) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (where) *where = now.tv_sec;
    return now.tv_sec;
}
"""


@pytest.fixture
def late_clock(tmp_path):
    """Environment in which the clock steps back an hour when the file ``back`` in ``tmp_path`` appears."""
    compiler = shutil.which("cc")
    if compiler is None or not sys.platform.startswith("linux"):
        pytest.skip("needs Linux and a C compiler")
    (tmp_path / "clock.c").write_text(CLOCK)
    subprocess.run([compiler, "-shared", "-fPIC", "-o", "clock.so", "clock.c"], cwd=tmp_path, check=True)
    return {"LD_PRELOAD": str(tmp_path / "clock.so"), "CLOCK_BACK": str(tmp_path / "back")}


@pytest.mark.slow
def test_a_clock_that_steps_back_an_hour_changes_nothing(late_clock, tmp_path):
    hold(tmp_path)
    study = launch(tmp_path, "held_before_its_result", "trials=3", "pruner=none", "deadline=30", **late_clock)
    held_workers(tmp_path)
    (tmp_path / "back").touch()
    release(tmp_path)
    _, err = study.communicate(timeout=60)
    assert study.returncode == 0, err
    assert outcomes(tmp_path) == {"complete": 3}
    first = study_in(tmp_path).trials[0]
    assert first.datetime_complete < first.datetime_start, "the clock did step back"
    assert all(0 <= record_of(trial)["duration"] < 60 for trial in study_in(tmp_path).trials)


@pytest.mark.slow
def test_a_worker_that_is_stopped_for_longer_than_its_deadline_costs_its_trial_only(tmp_path):
    hold(tmp_path)
    study = launch(tmp_path, "held", "trials=2", "pruner=none", "deadline=2")
    (worker,) = held_workers(tmp_path)
    os.kill(worker, signal.SIGSTOP)
    release(tmp_path)
    _, err = study.communicate(timeout=60)
    assert study.returncode == 0, err
    assert outcomes(tmp_path) == {"crashed": 1, "complete": 2}
    assert "gave no sign of life for 2 s" in record_of(study_in(tmp_path).trials[0])["reason"]


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
    assert "No space left on device" in (tmp_path / "first").read_text()
    folder = next((tmp_path / "kept/tuned").glob("*/*/trials.csv")).parent
    with (folder / "trials.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert sum(row["outcome"] == "complete" for row in rows) == 5 < len(rows)
    listed = [row["model"] for row in rows if row["model"]]
    assert len(listed) == 5
    for model in listed:
        codes.load(folder / model)


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


HOSTILE = {  # what stands in a stored config, and what an attacker writes instead
    "a tag of Python": ("seed: 42", "seed: !!python/object/apply:os.mkdir ['{made}']"),
    "a target": ("_target_: optuna.samplers.TPESampler", "_target_: tests.tuning.runners.mark\n  path: '{made}'"),
    "an argument": ("seed: 42", "seed:\n  _target_: tests.tuning.runners.mark\n  path: '{made}'"),
}


@pytest.mark.parametrize("policy", ["abort", "reuse"])
@pytest.mark.parametrize("way", HOSTILE)
def test_a_stored_config_from_elsewhere_runs_nothing(way, policy, tmp_path):
    run_study(composed(tmp_path, "trials=1", "pruner=none"), RUNNERS + "quadratic")
    study = study_in(tmp_path)
    honest, hostile = HOSTILE[way]
    text = study.user_attrs[KEPT]
    assert honest in text
    study.set_user_attr(KEPT, text.replace(honest, hostile.format(made=tmp_path / "made")))
    config = composed(tmp_path, "trials=2", "pruner=none", f"on_config_change={policy}")
    with suppress(UserError, OmegaConfBaseException):  # or what is stored is not used
        run_study(config, RUNNERS + "quadratic")
    assert not (tmp_path / "made").exists()
