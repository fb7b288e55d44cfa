"""A file on the net, read as one on the disk.

Only the blocks that are asked for are fetched, once each, and kept in a cache. Why neither fsspec's
block cache nor remfile: docs/decisions/files-on-the-net.md.
"""

from __future__ import annotations

import io
import logging
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import urllib3

from metadyn.cache import cache_folder
from metadyn.errors import RemoteError
from metadyn.nwb.addresses import Asset
from metadyn.nwb.provenance import file_digest
from metadyn.nwb.replace import private_name, remove_leftovers, short_name

# HDF5 reads kilobytes at many places, and a request takes as long as a quarter of a megabyte
BLOCK_BYTES = 2**18
BLOCKS_A_REQUEST = 32  # 8 MiB: what a connection that breaks can lose
BLOCKS_IN_MEMORY = 64
# Tried again at once, after half a second, and then twice as long each time: 16 s in all
TRIES = 6
BACK_OFF = 0.25
TIMEOUT = urllib3.Timeout(connect=10, read=30)  # seconds of silence
BUSY = (429, 500, 502, 503, 504)  # HTTP status: to be tried again
REFUSED = (
    "without rights or with an address that has expired: give the address with its token, or "
    "download the file by hand"
)

DownloadProgress = Callable[[str, int, int], None]

# Its warning of a retry has the URL with its token
logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)


class RemoteFile(io.RawIOBase):
    """A seekable, read-only file of the bytes of an asset.

    h5py may swallow an error of a read: the first one is kept as `failure`, and every later read
    fails at once.

    Parameters
    ----------
    asset : where the bytes are.

    Attributes
    ----------
    size : bytes of the file.
    key : hexadecimal name of this version of it in the cache.
    failure : the first RemoteError, None without one.

    Raises
    ------
    RemoteError : the bytes cannot be had; raised when it is made or read.
    """

    def __init__(self, asset: Asset) -> None:
        super().__init__()
        self.asset = asset
        self.failure: RemoteError | None = None
        self._at = 0
        self._http = urllib3.PoolManager()
        self._headers = _credentials(asset.url)
        self.size, self._version = self._size_and_version()
        # A file that has changed, or of which nobody says whether it has, is cached anew
        content = asset.digest or self._version or uuid.uuid4()
        self.key = sha256(f"{asset.url} {self.size} {content}".encode()).hexdigest()
        self._folder = cache_folder() / self.key[:2] / self.key
        self._block = lru_cache(BLOCKS_IN_MEMORY)(self._stored)

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def tell(self) -> int:
        """The position [bytes]."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to `offset` bytes from the start, the position or the end; returns the position."""
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self.size}[whence]
        self._at = origin + offset
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer from the position on; returns the number of bytes, 0 at the end.

        Raises
        ------
        RemoteError : bytes that are not in the cache cannot be fetched.
        """
        start = self._at
        stop = min(start + len(buffer), self.size)
        if stop > start:
            self._fetch_missing(range(start // BLOCK_BYTES, -(-stop // BLOCK_BYTES)))
        while self._at < stop:
            block, offset = divmod(self._at, BLOCK_BYTES)
            piece = self._block(block)[offset : offset + stop - self._at]
            buffer[self._at - start : self._at - start + len(piece)] = piece
            self._at += len(piece)
        return max(0, stop - start)

    def close(self) -> None:
        """Close the connections; the cache stays."""
        self._http.clear()
        super().close()

    def fetch(self, start: int, stop: int) -> bytes:
        """The bytes from start to stop, straight from the net.

        Raises
        ------
        RemoteError : they cannot be had, or the file has changed since it was opened.
        """
        response = self._get(start, stop)
        version = _version_of(response)
        if len(response.data) != stop - start or version != self._version:
            raise self._failed(
                "the file was changed while it was read",
                f"{len(response.data)} bytes, of version {version}",
                "the same command again",
            )
        return response.data

    def _size_and_version(self) -> tuple[int, str | None]:
        """Bytes of the file, and a text that changes with them, if the server gives one."""
        # A server that does not know ranges would send the whole file: it is not read ahead
        with self._get(0, 1, preload_content=False) as response:
            total = response.headers.get("Content-Range", "").rpartition("/")[2]
            if response.status != 206 or not total.isdecimal():
                raise self._failed(
                    "the server does not send parts of a file",
                    f"HTTP {response.status}",
                    "download the file whole, e.g. curl -O URL, and give its path",
                )
            with suppress(urllib3.exceptions.HTTPError):
                response.read()  # to its end, so that the connection serves again
            return int(total), _version_of(response)

    def _get(self, start: int, stop: int, **options: Any) -> urllib3.BaseHTTPResponse:
        """The response to a request of bytes start to stop; `options` are those of urllib3.

        Faults that pass are tried again, by urllib3.

        Raises
        ------
        RemoteError : they did not pass, the server refuses, or an earlier request failed.
        """
        if self.failure:
            raise self.failure
        patience = urllib3.Retry(
            TRIES, backoff_factor=BACK_OFF, status_forcelist=BUSY, respect_retry_after_header=False
        )
        headers = {**self._headers, "Range": f"bytes={start}-{stop - 1}"}
        try:
            response = self._http.request(
                "GET", self.asset.url, headers=headers, retries=patience, timeout=TIMEOUT, **options
            )
        except urllib3.exceptions.HTTPError as error:
            # The error itself names the URL, signature and all
            reason = getattr(error, "reason", None) or error
            raise self._failed(
                "the connection broke, and did not come back",
                f"{type(reason).__name__}: {reason}",
                "check the net, then the same command again: what was fetched is kept",
            ) from None
        if response.status >= 400:
            response.close()
            raise self._failed(
                "the server does not give the file",
                f"HTTP {response.status} {response.reason}",
                REFUSED if response.status in (401, 403) else "check the address",
            )
        return response

    def _failed(self, problem: str, found: str, remedy: str) -> RemoteError:
        """The error, which is kept as `failure`."""
        self._http.clear()
        error = RemoteError(problem, file=self.asset, found=found, remedy=remedy)
        self.failure = error
        return error

    def _fetch_missing(self, blocks: range) -> None:
        """Fetch and keep those blocks that are not in the cache, neighbours in one request."""
        missing = [block for block in blocks if not self._is_stored(block)]
        for run in _runs(missing):
            first = run[0] * BLOCK_BYTES
            data = self.fetch(first, min((run[-1] + 1) * BLOCK_BYTES, self.size))
            for block in run:
                start = block * BLOCK_BYTES - first
                self._store(block, data[start : start + BLOCK_BYTES])

    def _is_stored(self, block: int) -> bool:
        """Whether a block is in the cache at full length; a shorter one was lost on its way."""
        try:
            return self._path(block).stat().st_size == min(
                BLOCK_BYTES, self.size - block * BLOCK_BYTES
            )
        except FileNotFoundError:
            return False

    def _store(self, block: int, data: bytes) -> None:
        """Keep a block, whole or not at all: other processes may read the same file."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        work = self._folder / f"{block}.{os.getpid()}"
        work.write_bytes(data)
        os.replace(work, self._path(block))

    def _stored(self, block: int) -> bytes:
        """The bytes of a block in the cache."""
        return self._path(block).read_bytes()

    def _path(self, block: int) -> Path:
        """The file of a block in the cache."""
        return self._folder / str(block)


def _runs(blocks: list[int]) -> Iterator[list[int]]:
    """Blocks, which ascend, in runs of neighbours of at most BLOCKS_A_REQUEST.

    >>> list(_runs([3, 4, 7]))
    [[3, 4], [7]]
    """
    run: list[int] = []
    for block in blocks:
        if run and (block != run[-1] + 1 or len(run) == BLOCKS_A_REQUEST):
            yield run
            run = []
        run.append(block)
    if run:
        yield run


def _version_of(response: urllib3.BaseHTTPResponse) -> str | None:
    """A text of the server that changes with the file; None where it gives none."""
    return response.headers.get("ETag") or response.headers.get("Last-Modified")


def _credentials(url: str) -> dict[str, str]:
    """`user:password@` of a URL as the header of a request; empty without any."""
    auth = urllib3.util.parse_url(url).auth
    return urllib3.make_headers(basic_auth=auth) if auth else {}


def download(asset: Asset, target: Path, progress: DownloadProgress = lambda *_: None) -> Path:
    """Fetch a file whole to `target`; a download that was broken off goes on from where it was.

    Parameters
    ----------
    progress : called with the file's name, the bytes that are there and those of the whole.

    Raises
    ------
    RemoteError : the bytes cannot be had, or do not have the sha256 that the archive publishes.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with RemoteFile(asset) as remote:
        # The key is in the name: another version is another file
        part = target.with_name(f".{short_name(asset.path)}.{remote.key[:16]}.part")
        with part.open("ab") as out:
            while (done := out.tell()) < remote.size:
                stop = min(done + BLOCKS_A_REQUEST * BLOCK_BYTES, remote.size)
                out.write(remote.fetch(done, stop))
                progress(asset.path.name, out.tell(), remote.size)
    if asset.digest not in (None, file_digest(part)):
        part.unlink()
        raise RemoteError(
            "the bytes are not those that the archive's digest was taken of",
            file=asset,
            remedy="the same command again; if it stays so, tell the dandiset's owners",
        )
    os.replace(part, target)
    return target


@contextmanager
def local_copy(source: Path | Asset, folder: Path, progress: DownloadProgress) -> Iterator[Path]:
    """The path of a file; one on the net is downloaded into `folder` and deleted afterwards.

    `progress` as of `download`.
    """
    if not isinstance(source, Asset):
        yield source
        return
    whole = folder / f"source-{short_name(source.path)}"  # not the name that the result gets
    remove_leftovers(whole)
    copy = download(source, private_name(whole), progress)
    try:
        yield copy
    finally:
        copy.unlink()
