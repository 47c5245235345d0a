"""Which coordinators of a study live: each keeps an entry in the study, so that the trials of a dead one are found.

A coordinator of this host, boot and account is alive as long as its process is. Another one (also of a container, and
every one on a system without ``/proc``) is alive as long as its heartbeat changes, seen from here on a monotonic clock:
clocks of hosts differ and are set back. Names of hosts say nothing, two may have the same. Where no other host can use
the storage, another boot is an earlier one.
"""

import os
import socket
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna

PREFIX = "coordinator:"  # of the study's user attributes
BEAT = 20.0  # seconds between two heartbeats
GRACE = 120.0  # seconds without one after which a coordinator whose process is not seen from here counts as dead
BOOT = "/proc/sys/kernel/random/boot_id"
LOOK = 0.5  # seconds between two looks for one


class Presence:
    """This process among the coordinators of ``study``; to be made by one of them at a time.

    ``name`` is unique and readable, ``launch`` the number of coordinators that there have been before. What stands in
    ``about`` is kept with it, for those who look at the study, and whether its storage is ``of_one_host``.
    """

    def __init__(
        self, study: optuna.Study, clock: Callable[[], float] = time.monotonic, of_one_host: bool = False
    ) -> None:
        self.study, self.clock = study, clock
        self.own = {**_this_process(), "of_one_host": of_one_host}
        self.name = f"{self.own['host']}:{self.own['pid']}:{uuid.uuid4().hex[:8]}"
        self.about: dict[str, Any] = {}
        self.launch = sum(name.startswith(PREFIX) for name in study.user_attrs)
        self.count = 0
        self.seen: dict[str, tuple[int, float]] = {}  # last heartbeat of others, and when it was new here
        self.heard: set[str] = set()  # those whose heartbeat has changed since this one looks

    def beat(self) -> None:
        """Say that this coordinator lives; the first call enters it."""
        self.count += 1
        self.study.set_user_attr(PREFIX + self.name, {**self.own, **self.about, "beat": self.count})

    def leave(self) -> None:
        """Say that this coordinator has ended."""
        self.study.set_user_attr(PREFIX + self.name, {**self.own, **self.about, "beat": None})

    def others(self) -> list[str]:
        """Names of the other coordinators that live, or may live for all that is known yet."""
        return [name for name, entry in self._entered().items() if self._lives(name, entry)]

    def doubtful(self) -> list[str]:
        """Those judged by heartbeats, and silent since this one looks: it shows within ``GRACE`` who lives."""
        return [name for name in self.others() if name in self.seen and name not in self.heard]

    def wait_for_signs(self, tell: Callable[[str], None]) -> None:
        """Until it is known which of them live, and which are dead; these are buried."""
        if self.doubtful():
            tell(f"waiting up to {GRACE:.0f} s for a sign of life of {', '.join(self.doubtful())}")
        while self.doubtful():
            time.sleep(LOOK)
        self.bury()

    def told(self) -> dict[str, dict[str, Any]]:
        """What the other coordinators that live have told ``about`` themselves, by their names."""
        entries = self._entered()
        return {name: entries[name] for name in self.others()}

    def bury(self) -> None:
        """Write down which coordinators are dead, for those to come; one that was only asleep enters itself again."""
        for name, entry in self._entered().items():
            if entry["beat"] is not None and not self._lives(name, entry):
                self.study.set_user_attr(PREFIX + name, {**entry, "beat": None})

    def living(self) -> set[str]:
        """Names of all coordinators that live, this one included."""
        return {self.name, *self.others()}

    def _entered(self) -> dict[str, dict[str, Any]]:
        """Entries of all coordinators but this one, by their names."""
        return {
            name.removeprefix(PREFIX): entry
            for name, entry in self.study.user_attrs.items()
            if name.startswith(PREFIX) and name != PREFIX + self.name
        }

    def _lives(self, name: str, entry: dict[str, Any]) -> bool:
        if entry["beat"] is None:
            return False
        if entry.get("of_one_host") and entry["boot"] != self.own["boot"]:
            return False  # the host has been started anew since
        if entry["processes"] == self.own["processes"] is not None:
            return bool(_start_of(entry["pid"]) == entry["start"])
        beat, since = self.seen.get(name, (None, 0.0))
        if beat != entry["beat"]:
            since = self.clock()
            if beat is not None:
                self.heard.add(name)
            self.seen[name] = (entry["beat"], since)
        return self.clock() - since < GRACE


def _this_process() -> dict[str, Any]:
    pid = os.getpid()
    boot = _read(BOOT)
    start = _start_of(pid)
    return {
        "host": socket.gethostname(),
        "boot": boot,
        "processes": _process_table(boot) if boot and start is not None else None,
        "pid": pid,
        "start": start,
    }


def _process_table(boot: str) -> str | None:
    """What tells apart where a process number means the same process: the boot and, in containers, the namespace.

    And the account: many clusters show each only its own processes (``hidepid``).
    """
    try:
        return f"{boot} {os.readlink('/proc/self/ns/pid')} {os.getuid()}"
    except OSError:
        return None


def _start_of(pid: int) -> str | None:
    """When a process started, in ticks since the boot, so that its number's next owner is not taken for it.

    None where it does not run (or only waits to be reaped), and on systems without ``/proc``.
    """
    stat = _read(f"/proc/{pid}/stat")
    fields = stat.rpartition(")")[2].split() if stat else []
    return fields[19] if fields and fields[0] not in "ZX" else None


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return None
