"""The recipes of docs/extending.md, applied word for word to a copy of the repository."""

import os
import re
import shutil
import subprocess
import sys

import pytest

from tests.command import ROOT

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.M | re.S)


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("repository")
    for name in ("codes", "conf", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("train.py", "tune.py", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    return folder


def commands(block: str) -> list[list[str]]:
    programs = {"python": [sys.executable], "pytest": [sys.executable, "-m", "pytest", "-q"]}
    lines = [line.split() for line in block.splitlines()]
    return [[*programs[words[0]], *words[1:]] for words in lines]


@pytest.mark.slow
def test_every_recipe_works_as_written(copy):
    # The copy shadows the installed package, also in worker processes.
    environment = {**os.environ, "PYTHONPATH": str(copy), "OMP_NUM_THREADS": "1"}
    ran = 0
    for language, block in BLOCK.findall((ROOT / "docs/extending.md").read_text()):
        if language == "diff":
            apply(block, copy)
        elif language == "bash":
            for command in commands(block):
                result = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, timeout=300)
                assert result.returncode == 0, f"{command}\n{result.stdout}\n{result.stderr}"
                ran += 1
        else:
            path = re.match(r"# (\S+)\n", block)
            assert path, f"a block of docs/extending.md does not say which file it is:\n{block}"
            (copy / path[1]).write_text(block)
    assert ran >= 4


def apply(diff: str, folder) -> None:
    """Add the ``+`` lines of each hunk beside its context, which must be in the file exactly once."""
    for file in re.split(r"^--- .*\n", diff, flags=re.M)[1:]:
        header, *hunks = re.split(r"^@@\n", file, flags=re.M)
        path = folder / header.strip().removeprefix("+++ b/")
        for hunk in hunks:
            before = "".join(line[1:] for line in hunk.splitlines(keepends=True) if line.startswith(" "))
            after = "".join(line[1:] for line in hunk.splitlines(keepends=True))
            assert path.read_text().count(before) == 1, f"{path.name} does not have, once:\n{before}"
            path.write_text(path.read_text().replace(before, after))
