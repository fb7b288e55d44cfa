"""A file on the net, read as one on disk: only the blocks that are asked for are fetched, once
each, and kept in a cache.

Why neither fsspec's block cache nor remfile: docs/decisions/files-on-the-net.md.
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

import urllib3

from metadyn.cache import cache_folder
from metadyn.errors import RemoteError
from metadyn.nwb.addresses import Asset
from metadyn.nwb.provenance import file_digest
from metadyn.nwb.replace import private_name, remove_leftovers, short_name

BLOCK_BYTES = (
    2**18
)  # bytes: HDF5 wants kilobytes from many places, and a request takes as long as a quarter of a megabyte
BLOCKS_A_REQUEST = 32  # blocks of one request, 8 MiB: what a connection that breaks can lose
IN_MEMORY = 64  # blocks
TRIES, BACK_OFF = (
    6,
    0.25,
)  # tried again at once, after half a second, and then twice as long each time: 16 s in all
TIMEOUT = urllib3.Timeout(connect=10, read=30)  # seconds of silence
BUSY = (429, 500, 502, 503, 504)  # HTTP status: to be tried again
REFUSED = (
    "without rights or with an address that has expired: give the address with its token, or "
    "download the file by hand"
)

logging.getLogger("urllib3.connectionpool").setLevel(
    logging.ERROR
)  # its warning of a retry has the URL with its token


class RemoteFile(io.RawIOBase):
    """A seekable, read-only file of the bytes of an asset. RemoteError where they cannot be had.

    h5py may swallow an error of a read: the first one is kept as `failure`, and every later read
    fails at once.
    """

    def __init__(self, asset: Asset):
        super().__init__()
        self.asset, self.failure, self._at = asset, None, 0
        self._http, self._headers = urllib3.PoolManager(), _credentials(asset.url)
        self.size, self._version = self._look()
        self.key = sha256(
            f"{asset.url} {self.size} {asset.digest or self._version or uuid.uuid4()}".encode()
        ).hexdigest()
        self._folder = cache_folder() / self.key[:2] / self.key
        self._block = lru_cache(IN_MEMORY)(self._stored)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self.size}[whence]
        return self._at

    def readinto(self, buffer) -> int:
        start, stop = self._at, min(self._at + len(buffer), self.size)
        if stop > start:
            self._fetch_missing(range(start // BLOCK_BYTES, -(-stop // BLOCK_BYTES)))
        while self._at < stop:
            block, offset = divmod(self._at, BLOCK_BYTES)
            piece = self._block(block)[offset : offset + stop - self._at]
            buffer[self._at - start : self._at - start + len(piece)] = piece
            self._at += len(piece)
        return max(0, stop - start)

    def close(self) -> None:
        self._http.clear()
        super().close()

    def fetch(self, start: int, stop: int) -> bytes:
        """Bytes start to stop, straight from the net."""
        response = self._get(start, stop)
        if len(response.data) != stop - start or _version_of(response) != self._version:
            found, remedy = (
                f"{len(response.data)} bytes, of version {_version_of(response)}",
                "the same command again",
            )
            raise self._failed("the file was changed while it was read", found, remedy)
        return response.data

    def _look(self) -> tuple[int, str | None]:
        """Size and version."""
        with self._get(
            0, 1, preload_content=False
        ) as response:  # a server without ranges would send the whole file
            total = response.headers.get("Content-Range", "").rpartition("/")[2]
            if response.status != 206 or not total.isdecimal():
                remedy = "download the file whole, e.g. curl -O URL, and give its path"
                raise self._failed(
                    "the server does not send parts of a file", f"HTTP {response.status}", remedy
                )
            with suppress(urllib3.exceptions.HTTPError):
                response.read()  # to its end, so that the connection serves again
            return int(total), _version_of(response)

    def _get(self, start: int, stop: int, **options):
        """The response to a request of a range; what passes is tried again, by urllib3."""
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
            why = (
                getattr(error, "reason", None) or error
            )  # the error itself names the URL, signature and all
            remedy = "check the net, then the same command again: what was fetched is kept"
            raise self._failed(
                "the connection broke, and did not come back",
                f"{type(why).__name__}: {why}",
                remedy,
            ) from None
        if response.status >= 400:
            response.close()
            remedy = REFUSED if response.status in (401, 403) else "check the address"
            raise self._failed(
                "the server does not give the file",
                f"HTTP {response.status} {response.reason}",
                remedy,
            )
        return response

    def _failed(self, problem: str, found: str, remedy: str) -> RemoteError:
        self._http.clear()
        self.failure = RemoteError(problem, file=self.asset, found=found, remedy=remedy)
        return self.failure

    def _fetch_missing(self, blocks: range) -> None:
        """Fetch and keep what is not in the cache, neighbours in one request."""
        for run in _runs([block for block in blocks if not self._is_stored(block)]):
            start = run[0] * BLOCK_BYTES
            data = self.fetch(start, min(run[-1] * BLOCK_BYTES + BLOCK_BYTES, self.size))
            for block in run:
                self._store(
                    block,
                    data[block * BLOCK_BYTES - start : block * BLOCK_BYTES - start + BLOCK_BYTES],
                )

    def _is_stored(self, block: int) -> bool:
        """A block that is not as long as it must be was lost on its way to the disk."""
        try:
            return self._path(block).stat().st_size == min(
                BLOCK_BYTES, self.size - block * BLOCK_BYTES
            )
        except FileNotFoundError:
            return False

    def _store(self, block: int, data: bytes) -> None:
        """Whole or not at all: other processes may read the same file."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        work = self._folder / f"{block}.{os.getpid()}"
        work.write_bytes(data)
        os.replace(work, self._path(block))

    def _stored(self, block: int) -> bytes:
        return self._path(block).read_bytes()

    def _path(self, block: int) -> Path:
        return self._folder / str(block)


def _runs(blocks: list[int]) -> Iterator[list[int]]:
    """Neighbours together, at most BLOCKS_A_REQUEST of them."""
    run: list[int] = []
    for block in blocks:
        if run and (block != run[-1] + 1 or len(run) == BLOCKS_A_REQUEST):
            yield run
            run = []
        run.append(block)
    if run:
        yield run


def _version_of(response) -> str | None:
    """By what a changed file is told from this one, where the server says it."""
    return response.headers.get("ETag") or response.headers.get("Last-Modified")


def _credentials(url: str) -> dict[str, str]:
    """`user:password@` of a URL as the header that says so."""
    auth = urllib3.util.parse_url(url).auth
    return urllib3.make_headers(basic_auth=auth) if auth else {}


def download(
    asset: Asset, target: Path, progress: Callable[[str, int, int], None] = lambda *_: None
) -> Path:
    """Fetch a file whole; one that was broken off goes on from where it was. Its sha256 is compared
    where it is known.

    `progress` is called with the file's name, the bytes that are there and those of the whole.
    Raises RemoteError where the bytes cannot be had, or are not those that the archive's digest was
    taken of.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with RemoteFile(asset) as remote:
        part = target.with_name(
            f".{short_name(asset.path)}.{remote.key[:16]}.part"
        )  # another version is another file
        with part.open("ab") as out:
            while (done := out.tell()) < remote.size:
                out.write(
                    remote.fetch(done, min(done + BLOCKS_A_REQUEST * BLOCK_BYTES, remote.size))
                )
                progress(asset.path.name, out.tell(), remote.size)
    if asset.digest not in (None, file_digest(part)):
        part.unlink()
        remedy = "the same command again; if it stays so, tell the dandiset's owners"
        raise RemoteError(
            "the bytes are not those that the archive's digest was taken of",
            file=asset,
            remedy=remedy,
        )
    os.replace(part, target)
    return target


@contextmanager
def local_copy(
    source: Path | Asset, folder: Path, progress: Callable[[str, int, int], None]
) -> Iterator[Path]:
    """The path of a file; one on the net is downloaded into `folder` and deleted afterwards."""
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
