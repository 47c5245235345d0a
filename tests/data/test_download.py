"""Downloads from a real HTTP server on the loopback interface, whole, cut, changed, refused."""

import hashlib
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import h5py
import numpy as np
import pytest

from codes.data.download import download
from codes.errors import UserError

ROOT = Path(__file__).parents[2]


class Server(ThreadingHTTPServer):
    """Serves one file; ``faults`` holds what goes wrong with the next requests, ``ranges`` what was asked for."""

    def __init__(self, content: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = content
        self.version = '"1"'
        self.serves_ranges = True
        self.says_length = True
        self.faults: list[int] = []  # a status to answer with, or (negative) the bytes after which to hang up
        self.ranges: list[str | None] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/data.hdf5?download=1"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        self.server.ranges.append(asked)
        fault = self.server.faults.pop(0) if self.server.faults else 200
        total = len(self.server.content)
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and self.server.serves_ranges else 0
        if fault > 200 or start >= total:
            self.send_error(fault if fault > 200 else 416)
            return
        self.send_response(206 if start else 200)
        self.send_header("ETag", self.server.version)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        if self.server.says_length:
            self.send_header("Content-Length", str(total - start))
        self.end_headers()
        body = self.server.content[start:]
        self.wfile.write(body[:-fault] if fault < 0 else body)

    def log_message(self, format: str, *args: object) -> None:
        """The test reads ``ranges`` instead."""


def hdf5(folder: Path, seed: int, n: int = 100) -> bytes:
    path = folder / f"served_{seed}.h5"
    with h5py.File(path, "w") as file:
        file["train"] = np.random.default_rng(seed).random((n, 101, 10))
    return path.read_bytes()


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Server(hdf5(tmp_path, seed=1)) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "datasets"


def get(server: Server, folder: Path, attempts: int = 3) -> Path:
    return download("gas", server.url, folder, attempts=attempts, backoff=0)


def test_whole_download_is_kept_with_its_checksum(server, folder):
    path = get(server, folder)
    assert path == folder / "gas.h5"
    assert path.read_bytes() == server.content
    digest = hashlib.sha256(server.content).hexdigest()
    assert (folder / "gas.h5.sha256").read_text() == f"# {server.url}\n{digest}  gas.h5\n"
    assert {entry.name for entry in folder.iterdir()} - {"gas.h5.lock"} == {"gas.h5", "gas.h5.sha256"}
    assert get(server, folder) == path
    assert server.ranges == [None], "the second call asks for nothing"


def test_cut_connection_is_resumed_in_the_same_call(server, folder):
    half = len(server.content) // 2
    server.faults = [-half]
    assert get(server, folder).read_bytes() == server.content
    first, second = server.ranges
    assert first is None
    assert 0 < int(second.removeprefix("bytes=").removesuffix("-")) <= half


def test_cut_connection_is_resumed_by_the_next_call(server, folder):
    server.faults = [-len(server.content) // 2]
    with pytest.raises(UserError, match=r"run again \(0\.\d MB are kept\)"):
        get(server, folder, attempts=1)
    assert get(server, folder).read_bytes() == server.content
    assert server.ranges[1] is not None


def test_connection_that_is_always_cut_leaves_nothing_usable(server, folder):
    server.serves_ranges = False
    server.faults = [-300_000] * 3
    with pytest.raises(UserError, match=r"gas.h5: could not be downloaded .* place it at") as raised:
        get(server, folder)
    assert str(folder / "gas.h5") in str(raised.value)
    assert not (folder / "gas.h5").exists()
    assert not (folder / "gas.h5.sha256").exists()
    assert 0 < (folder / "gas.h5.part").stat().st_size <= 300_000
    assert len(server.ranges) == 3
    assert get(server, folder).read_bytes() == server.content, "a server without ranges sends all of it again"


def test_a_transfer_that_was_whole_when_its_process_was_killed_is_not_asked_for_again(server, folder, tmp_path):
    server.faults = [-1]
    with pytest.raises(UserError):
        get(server, folder, attempts=1)
    (folder / "gas.h5.part").write_bytes(server.content)
    assert get(server, folder).read_bytes() == server.content
    assert len(server.ranges) == 1 and not list(folder.glob("*.part*"))


@pytest.mark.parametrize("n", [100, 5], ids=["same length", "shorter than what is there"])
def test_file_changed_on_the_server_starts_over(server, folder, tmp_path, n):
    server.faults = [-len(server.content) // 2]
    with pytest.raises(UserError):
        get(server, folder, attempts=1)
    server.content, server.version = hdf5(tmp_path, seed=2, n=n), '"2"'
    assert get(server, folder).read_bytes() == server.content
    assert server.ranges[2] is None


def test_nothing_is_resumed_when_the_server_names_no_version(server, folder):
    server.faults = [-len(server.content) // 2]
    server.says_length = False
    with pytest.raises(UserError, match="not a complete HDF5 file"):  # no length: only the file itself shows the cut
        get(server, folder)
    assert not (folder / "gas.h5.part").exists()
    assert get(server, folder).read_bytes() == server.content
    assert server.ranges == [None, None]


def test_missing_file_is_told_at_once(server, folder):
    server.faults = [404] * 3
    with pytest.raises(UserError, match="the server answered 404 Not Found"):
        get(server, folder)
    assert len(server.ranges) == 1


def test_busy_server_is_asked_again(server, folder):
    server.faults = [503, 429]
    assert get(server, folder).read_bytes() == server.content


def test_offline_says_what_to_place_where(server, folder, tmp_path):
    with Server(b"") as closed:
        url = closed.url
    with pytest.raises(UserError, match="Connection refused") as raised:
        download("gas", url, folder, attempts=2, backoff=0)
    assert url in str(raised.value)
    assert f"place it at {folder / 'gas.h5'}" in str(raised.value)
    (folder / "gas.h5").write_bytes(server.content)
    assert download("gas", url, folder).read_bytes() == server.content
    assert (folder / "gas.h5.sha256").exists()


def test_web_page_instead_of_a_dataset_is_refused(server, folder):
    server.content = b"<!doctype html><title>Log in</title>"
    with pytest.raises(UserError, match=r"not a complete HDF5 file, it starts with b'<!doctype"):
        get(server, folder)
    assert {entry.name for entry in folder.iterdir()} <= {"gas.h5.lock"}


def test_half_a_file_placed_by_hand_is_refused(server, folder):
    folder.mkdir()
    (folder / "gas.h5").write_bytes(server.content[: len(server.content) // 2])
    with pytest.raises(UserError, match=r"gas.h5: is not a complete HDF5 file"):
        get(server, folder)
    assert server.ranges == []


def test_file_altered_later_is_refused(server, folder, tmp_path):
    path = get(server, folder)
    altered = bytearray(path.read_bytes())
    altered[-1] ^= 1
    path.write_bytes(altered)
    with pytest.raises(UserError, match=r"SHA-256 .* but gas.h5.sha256 says .* delete the file to download it again"):
        get(server, folder)
    path.unlink()
    assert get(server, folder).read_bytes() == server.content
    path.unlink()
    server.content, server.version = hdf5(tmp_path, seed=2), '"2"'
    with pytest.raises(UserError, match="SHA-256"):
        get(server, folder)


def test_other_source_under_the_same_name_is_refused(server, folder):
    get(server, folder)
    with pytest.raises(UserError, match=r"but dataset.url is http://127.0.0.1/other"):
        download("gas", "http://127.0.0.1/other", folder)


def test_folder_that_cannot_be_written_is_one_clear_error(server, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot be written .* dataset.data_dir"):
        get(server, tmp_path / "file")


def test_two_processes_download_once(server, folder):
    call = f"""
from pathlib import Path
from codes.data.download import download
print("ready", flush=True)
input()
print(download("gas", {server.url!r}, Path({str(folder)!r}), backoff=0))
"""
    command = [sys.executable, "-c", call]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "cwd": ROOT}
    with subprocess.Popen(command, **pipes) as one, subprocess.Popen(command, **pipes) as other:
        assert [process.stdout.readline() for process in (one, other)] == ["ready\n"] * 2
        for process in (one, other):
            process.stdin.write("\n")
            process.stdin.flush()
        assert [process.communicate(timeout=60)[0].strip() for process in (one, other)] == [str(folder / "gas.h5")] * 2
    assert server.ranges == [None]
    assert (folder / "gas.h5").read_bytes() == server.content


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder that can hold no file")
def test_a_folder_that_can_hold_no_file(server):
    with pytest.raises(UserError, match=r"/proc/.*cannot be written \(No such file.*dataset.data_dir"):
        download("x", server.url, Path("/proc"))
