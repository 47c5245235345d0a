"""Locks on files, in places where there can be files."""

from pathlib import Path
from tempfile import TemporaryFile

from filelock import FileLock


def lock_on(path: Path) -> FileLock:
    """The lock ``path``; raises ``OSError`` where no file can be made, as in ``/proc``: ``filelock`` tries for ever."""
    if not path.exists():
        check_makes_files(path.parent)
    return FileLock(path)


def check_makes_files(folder: Path) -> None:
    """Raise ``OSError`` unless a file can be made in ``folder``, which its permissions do not tell."""
    with TemporaryFile(dir=folder):
        pass
