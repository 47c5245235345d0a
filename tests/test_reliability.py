"""Each promise of docs/reliability.md names a test that exists."""

import re

import pytest

from tests.command import ROOT

NAMED = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (ROOT / "docs/reliability.md").read_text())


@pytest.mark.parametrize(("path", "name"), NAMED)
def test_the_test_exists(path, name):
    assert re.search(rf"^def {name}\(", (ROOT / path).read_text(), re.M)


def test_every_row_names_one():
    rows = [row for row in (ROOT / "docs/reliability.md").read_text().splitlines() if row.startswith("| ")]
    assert len(NAMED) == len(rows) - 1 >= 25
