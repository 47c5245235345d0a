"""Which file system a path is on, by the system's mount table."""

import re
from pathlib import Path

from codes.errors import UserError

TABLE = Path("/proc/self/mounts")
NETWORK = re.compile(
    r"nfs\d?|cifs|smb\d?|smbfs|ncpfs|afs|9p|lustre|gpfs|mmfs|beegfs(_nodev)?|ceph|glusterfs|orangefs|pvfs2|panfs|wekafs"
    r"|virtiofs|fuse\.(sshfs|glusterfs|ceph|s3fs|gcsfuse|rclone|davfs\d?|juicefs|lustre|beegfs)|davfs\d?"
)


def refuse_network(key: str, path: Path, why: str) -> None:
    """Raise ``UserError`` for ``key`` if ``path`` lies on a network file system that the mount table tells."""
    kind = filesystem(path)
    if NETWORK.fullmatch(kind):
        raise UserError(f"{key} {path}: lies on a network file system ({kind}); {why}")


def filesystem(path: Path) -> str:
    """Type of the file system that ``path`` is or would be on; empty where the system has no mount table."""
    if not TABLE.exists():
        return ""
    mounts = [line.split(" ")[1:3] for line in TABLE.read_text(errors="surrogateescape").splitlines()]
    kinds = {_unescape(folder): kind for folder, kind in mounts}  # a later mount hides an earlier one
    real = path.resolve()
    return next((kinds[str(folder)] for folder in (real, *real.parents) if str(folder) in kinds), "")


def _unescape(text: str) -> str:
    """The table writes a space as ``\\040``, and so a few others."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)
