"""Coordinators that tests start, and the servers of the tests of storages."""

import pytest

from tests.storage.conftest import binaries, foreign, fresh, open_folder, template
from tests.tuning.studies import launch

__all__ = ["binaries", "foreign", "fresh", "open_folder", "template"]


@pytest.fixture
def start(tmp_path):
    """Start coordinators in ``tmp_path``; none outlives the test."""
    started = []

    def start(runner, *overrides):
        started.append(launch(tmp_path, runner, *overrides))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()
