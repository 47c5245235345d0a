"""Files appear whole or not at all."""

import os
import uuid
from pathlib import Path


def write_atomically(path: Path, content: bytes | str) -> Path:
    """Write ``content`` beside ``path``, flush it to disk and rename it: a kill leaves the old or the new file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        with open(beside, "xb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    return path
