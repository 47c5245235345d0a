"""What the tests have in common, set before any of them imports PyTorch.

A shell without job control (``pytest &`` in a script) starts its jobs deaf to Ctrl-C, ``nohup`` to the end of the
terminal, and so all that they start. Tests send both, so everything that they start hears them, as in the foreground.

Each process has one CPU thread unless ``OMP_NUM_THREADS`` says otherwise: with two processes that both take all cores,
threads wait for each other, and trainings take three times as long.

Their files are in memory where a system has room for that and ``TMPDIR`` names no other place: hundreds of databases
that wait for a disk take a third of the time.

Nothing is timed: a busy machine must not fail a property test.
"""

import os
import shutil
import signal
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings

MEMORY, ROOM = Path("/dev/shm"), 8 * 2**30  # bytes; the tests need a fraction of it

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
os.environ.setdefault("OMP_NUM_THREADS", "1")
if "TMPDIR" not in os.environ and MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > ROOM:
    os.environ["TMPDIR"] = str(MEMORY)
    tempfile.tempdir = None  # to be found anew


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """One cache of generated datasets for all tests of a file."""
    return str(tmp_path_factory.mktemp("datasets"))
