"""Locks on files beside a storage: the operating system's, free when their holder dies."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from codes.locks import lock_on


@contextmanager
def claiming(path: Path, study_name: str) -> Iterator[None]:
    """Hold the lock of a study in the storage ``path``; waits for its holder."""
    with lock_on(lock_path(path, f"study-{study_name}")):
        yield


def lock_path(path: Path, name: str) -> Path:
    """The file that is locked for ``name``, which may be of any length and letters."""
    digest = hashlib.blake2b(name.encode(errors="surrogatepass"), digest_size=8).hexdigest()
    return path.with_name(f".{path.name}.{digest}.lock")
