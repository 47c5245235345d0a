"""The account that a database server runs as: PostgreSQL refuses to be root, which people are in containers."""

import os
import pwd
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from codes.errors import UserError

CANDIDATES = ("postgres", "nobody")


@dataclass(frozen=True)
class Account:
    """A user of this system; ``switch`` says whether it is another one than ours."""

    name: str
    uid: int
    gid: int
    switch: bool

    def own(self, path: Path) -> None:
        """Hand ``path`` over."""
        if self.switch:
            os.chown(path, self.uid, self.gid)

    def run(self, command: Sequence[str | Path]) -> subprocess.CompletedProcess[str]:
        """Run ``command`` to its end as this account."""
        return subprocess.run(
            command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, **self._as()
        )

    def start(self, command: Sequence[str | Path], log: IO[bytes]) -> subprocess.Popen[bytes]:
        """Start ``command`` as this account, out of reach of our terminal's Ctrl-C, with its output in ``log``."""
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, **self._as()
        )

    def check_can_enter(self, folder: Path, key: str) -> None:
        """Raise ``UserError`` for ``key`` unless this account may enter ``folder`` and all above it."""
        for parent in (*reversed(folder.parents), folder):
            if self.switch and self.run(["test", "-x", parent]).returncode != 0:
                raise UserError(
                    f"{key}: PostgreSQL cannot run as root, and '{self.name}', whom it runs as, may not enter "
                    f"{parent}; set storage.data_dir to a folder that everybody may enter, such as /var/lib/codes"
                )

    def check_can_run(self, program: Path) -> None:
        """Raise ``UserError`` unless this account may run ``program``."""
        if self.switch and self.run(["test", "-x", program]).returncode != 0:
            raise UserError(
                f"storage.database_folder: PostgreSQL cannot run as root, and '{self.name}', whom it runs as, "
                f"may not run {program}; install PostgreSQL where everybody may run it"
            )

    def _as(self) -> dict[str, Any]:
        """No password, no client setting and no language of ours reaches the server."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        settings: dict[str, Any] = {"env": {**environment, "LC_ALL": "C"}, "cwd": "/"}
        if self.switch:
            settings |= {"user": self.uid, "group": self.gid, "extra_groups": []}
        return settings


def server_account(data: Path) -> Account:
    """Who owns the cluster ``data``; before there is one, ourselves, or for root one of ``CANDIDATES``."""
    if os.geteuid() != 0:
        return Account("", os.geteuid(), os.getegid(), switch=False)
    if data.exists() and data.stat().st_uid != 0:
        return _account(pwd.getpwuid(data.stat().st_uid))
    for name in CANDIDATES:
        try:
            return _account(pwd.getpwnam(name))
        except KeyError:
            continue
    raise UserError(f"storage: PostgreSQL cannot run as root, and none of the users {', '.join(CANDIDATES)} exists")


def _account(entry: pwd.struct_passwd) -> Account:
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid, switch=True)
