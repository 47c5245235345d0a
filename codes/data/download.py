"""Public datasets: downloaded once, checked ever after.

Beside ``<name>.h5`` lies ``<name>.h5.sha256``, in the format of ``sha256sum`` with the source as a comment. It is
written at the first download, and every later use is held against it.
"""

import logging
import os
import time
from pathlib import Path

import h5py
import pooch
import requests
from tqdm import tqdm

from codes.errors import UserError
from codes.files import write_atomically
from codes.locks import lock_on

log = logging.getLogger(__name__)

TIMEOUT = (10.0, 60.0)  # seconds to connect, and to wait for the next bytes
PIECE = 1 << 16
TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})


def download(name: str, url: str, data_dir: Path, *, attempts: int = 5, backoff: float = 1.0) -> Path:
    """Path of the public dataset ``name``: ``data_dir/<name>.h5``, fetched from ``url`` if it is not there yet.

    A cut connection is taken up again where it broke, in at most ``attempts`` requests with ``backoff``, 2 ``backoff``,
    4 ``backoff`` ... seconds between them, and again by the next call. The file appears under its name only when it is
    complete and opens as HDF5. Of several processes one downloads and the others wait for it. A file that was placed
    there by hand is taken as it is.

    Raises ``UserError`` if the file cannot be had or written, or differs from what was first downloaded.
    """
    path = Path(data_dir) / f"{name}.h5"
    checksum = _beside(path, ".sha256")
    if not (path.is_file() and checksum.is_file()):  # else nothing is written: the folder may be read-only
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with lock_on(_beside(path, ".lock")):
                if not path.is_file():
                    log.info("%s: downloading %s", path.name, url)
                    ResumingDownloader(path, attempts, backoff).fetch(url)
                if not checksum.is_file():
                    _record(path, checksum, url)
        except OSError as error:
            reason = error.strerror or error
            raise UserError(f"{path}: cannot be written ({reason}); choose a folder by dataset.data_dir=...") from error
    _verify(path, checksum, url)
    return path


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _record(path: Path, checksum: Path, url: str) -> None:
    if not _opens(path):
        raise UserError(f"{path}: is not a complete HDF5 file; replace it, or delete it to download {url}")
    write_atomically(checksum, f"# {url}\n{pooch.file_hash(path)}  {path.name}\n")


def _verify(path: Path, checksum: Path, url: str) -> None:
    lines = checksum.read_text().splitlines()
    sources = [line[1:].strip() for line in lines if line.startswith("#")]
    if sources and url not in sources:
        raise UserError(
            f"{path}: comes from {sources[0]}, but dataset.url is {url}; "
            f"move it and {checksum.name} away to download anew, or give the other source its own dataset.name"
        )
    known = next((line.split()[0] for line in lines if line.strip() and not line.startswith("#")), "none")
    found = pooch.file_hash(path)
    if found != known:
        raise UserError(
            f"{path}: has SHA-256 {found}, but {checksum.name} says {known}; delete the file to download it again, "
            f"delete {checksum.name} too if another version is what you want"
        )


def _opens(path: Path) -> bool:
    """True for a whole HDF5 file: the library compares the length of the file with what its header says."""
    try:
        with h5py.File(path, "r"):
            return True
    except OSError:
        return False


class ResumingDownloader:
    """Fetches the file ``path``, and goes on where a transfer was cut.

    Bytes are gathered in ``<file>.part``. Beside it, ``<file>.part.id`` keeps what tells one content from another: URL,
    ETag or Last-Modified, and length. The rest is asked for by an HTTP Range request and appended only if the server
    names the same content; otherwise, or if it cannot serve ranges, the transfer starts over.
    """

    def __init__(self, path: Path, attempts: int, backoff: float) -> None:
        self.path = path
        self.part = _beside(path, ".part")
        self.identity = _beside(path, ".part.id")
        self.attempts = attempts
        self.backoff = backoff

    def fetch(self, url: str) -> None:
        """Have the file there, whole; raises ``UserError``, and ``OSError`` where it cannot be written."""
        for attempt in range(self.attempts):
            try:
                self._transfer(url)
                break
            except requests.RequestException as error:
                if attempt + 1 == self.attempts or not _transient(error):
                    raise UserError(self._advice(url, _reason(error))) from error
                wait = self.backoff * 2**attempt
                log.warning("%s: %s; trying again in %g s", self.path.name, _reason(error), wait)
                time.sleep(wait)
        if not _opens(self.part):
            with self.part.open("rb") as file:
                start = file.read(16)
            self._discard()
            raise UserError(self._advice(url, f"what came is not a complete HDF5 file, it starts with {start!r}"))
        os.replace(self.part, self.path)
        self._discard()

    def _transfer(self, url: str) -> None:
        """Bring the part to its full length in at most one request, or raise ``requests.RequestException``."""
        offset = self.part.stat().st_size if self.part.is_file() and self.identity.is_file() else 0
        if offset and self._is_whole(url, offset):  # a kill kept it from its name; there is nothing to ask for
            return
        headers = {"Accept-Encoding": "identity"}  # lengths and offsets count the bytes of the file itself
        if offset:
            headers["Range"] = f"bytes={offset}-"
        with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
            resumed = response.status_code == requests.codes.partial_content
            refused = response.status_code == requests.codes.requested_range_not_satisfiable
            if offset and (refused or (resumed and not self._continues(response, url, offset))):
                log.warning("%s: the file on the server has changed, starting over", self.path.name)
                self._discard()
                self._transfer(url)
                return
            response.raise_for_status()
            self._save(response, url, offset if resumed else 0)

    def _is_whole(self, url: str, size: int) -> bool:
        kept = self.identity.read_text()
        return kept.startswith(f"{url}\n") and kept.endswith(f"\n{size}\n")

    def _continues(self, response: requests.Response, url: str, offset: int) -> bool:
        starts = response.headers.get("Content-Range", "").startswith(f"bytes {offset}-")
        return starts and self.identity.read_text() == _identity(response, url)

    def _save(self, response: requests.Response, url: str, offset: int) -> None:
        if not offset:
            self._discard()
            if identity := _identity(response, url):
                self.identity.write_text(identity)
        total = _length(response)
        with (
            self.part.open("ab") as file,
            tqdm(desc=self.path.name, total=total, initial=offset, unit="B", unit_scale=True, disable=None) as bar,
        ):
            for piece in response.iter_content(PIECE):
                file.write(piece)
                bar.update(len(piece))
        size = self.part.stat().st_size
        if total is not None and size != total:
            raise requests.ConnectionError(f"got {size} of {total} bytes")

    def _discard(self) -> None:
        self.part.unlink(missing_ok=True)
        self.identity.unlink(missing_ok=True)

    def _advice(self, url: str, reason: str) -> str:
        message = f"{self.path.name}: could not be downloaded from {url} ({reason}); "
        if self.part.is_file() and self.identity.is_file():
            message += f"run again ({self.part.stat().st_size / 1e6:.1f} MB are kept), or "
        return message + f"get the file by other means and place it at {self.path}"


def _length(response: requests.Response) -> int | None:
    """Bytes of the whole file, whether all or the rest of it is being sent; None if the server does not say."""
    headers = response.headers
    total = headers.get("Content-Range", "").rpartition("/")[2] or headers.get("Content-Length", "")
    return int(total) if total.isdecimal() else None


def _identity(response: requests.Response, url: str) -> str:
    """What tells the content of ``url`` from a later one; empty if the server does not say: nothing is resumed then."""
    version = response.headers.get("ETag") or response.headers.get("Last-Modified")
    length = _length(response)
    return f"{url}\n{version}\n{length}\n" if version and length is not None else ""


def _transient(error: requests.RequestException) -> bool:
    if error.response is not None:
        return error.response.status_code in TRANSIENT
    kinds = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)
    return isinstance(error, kinds)


def _reason(error: BaseException) -> str:
    """The cause at the root of what ``requests`` wraps several times, such as ``[Errno 111] Connection refused``."""
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"the server answered {error.response.status_code} {error.response.reason}"
    return _reason(error.__context__) if error.__context__ else str(error)
