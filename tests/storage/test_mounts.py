"""Network file systems are told by the mount table."""

from pathlib import Path

import pytest

from codes.errors import UserError
from codes.schema import FileStorageConfig
from codes.storage import mounts, opened

TABLE = """\
/dev/sda1 / ext4 rw 0 0
server:/home /home nfs4 rw 0 0
/dev/sdb1 /home/me/local xfs rw 0 0
mds@tcp:/scratch /scratch lustre rw 0 0
//nas/my\\040files /mnt/my\\040files cifs rw 0 0
me@host: /mnt/ssh fuse.sshfs rw 0 0
/dev/sda2 /data ext4 rw 0 0
server:/data /data nfs rw 0 0
"""


@pytest.fixture(autouse=True)
def table(tmp_path, monkeypatch):
    path = tmp_path / "mounts"
    path.write_text(TABLE)
    monkeypatch.setattr(mounts, "TABLE", path)


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/home/you/study.db", "nfs4"),
        ("/home/me/local/a/study.db", "xfs"),
        ("/homely/study.db", "ext4"),
        ("/scratch", "lustre"),
        ("/mnt/my files/study.db", "cifs"),
        ("/mnt/ssh/study.db", "fuse.sshfs"),
        ("/data/study.db", "nfs"),  # mounted over another
    ],
)
def test_sqlite_is_refused_on_a_network_file_system(path, kind):
    assert mounts.filesystem(Path(path)) == kind
    if kind not in ("xfs", "ext4"):
        message = rf"storage.path {path}: .*network file system \({kind}\).*storage=journal or storage=postgres"
        with pytest.raises(UserError, match=message), opened(FileStorageConfig("sqlite", path)):
            pass
        assert not Path(path).exists()
