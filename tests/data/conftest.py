"""What the tests of data share."""

import pytest


@pytest.fixture
def path(tmp_path):
    """Where a dataset may be written."""
    return tmp_path / "data.h5"
