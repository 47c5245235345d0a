"""A clock that steps back."""

import shutil
import subprocess
import sys

import pytest

from codes.tuning.ledger import record_of
from tests.tuning.studies import held_workers, hold, launch, outcomes, release, study_in

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
