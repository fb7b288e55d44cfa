"""NWB files on the net: what may stand in place of a path, and where such a file's bytes are."""

from __future__ import annotations

import logging
import os
import re
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from metadyn.errors import RemoteError
from metadyn.nwb.provenance import public_uri

SCHEMES = ("dandi://", "https://", "http://")
NEED_DANDI = "pip install 'ndx-metadyn[dandi]'"
DANDI_ADDRESS = re.compile(
    r"(dandi://)?(DANDI:)?(?P<number>\d{6})([@/](?P<version>draft|\d+\.\d+\.\d+))?(/(?P<path>.*))?"
)


@dataclass(frozen=True)
class Asset:
    """A file on the net.

    Parameters
    ----------
    url : where its bytes are, with the credentials that the user typed; never stored or shown.
    uri : the public address by which others find it.
    path : its name, in a dandiset with the folders there.
    digest : `sha256:…` of its bytes, where the archive publishes it.
    """

    url: str = field(repr=False)
    uri: str
    path: PurePosixPath
    digest: str | None = None

    def __str__(self) -> str:
        return self.uri


def is_address(source: object) -> bool:
    """Whether this is the text of an address, not a path.

    >>> is_address("dandi://DANDI:000140/sub-Jenkins"), is_address("recordings/a.nwb")
    (True, False)
    """
    return isinstance(source, str) and source.startswith(SCHEMES)


def assets(address: str) -> list[Asset]:
    """The NWB files at an address.

    Parameters
    ----------
    address : `https://…` of one file, or `dandi://…` of a file, a folder or a dandiset.

    Raises
    ------
    RemoteError : DANDI has no such file, cannot be asked, or its client is not installed.

    >>> [asset.path.name for asset in assets("https://example.org/data/a.nwb?token=1")]
    ['a.nwb']
    """
    if not address.startswith("dandi://"):
        path = PurePosixPath(_last_name(address))
        return [Asset(address, public_uri(address) or address, path)]
    found = _in_archive(dandi_address(address))
    if not found:
        remedy = (
            "an address as dandi has it: dandi://DANDI:000123/sub-A/sub-A_ecephys.nwb, "
            "or dandi://DANDI:000123/sub-A"
        )
        raise RemoteError("there is no NWB file at this address", file=address, remedy=remedy)
    return found


def located(source: Any) -> Any:
    """The Path or, for an address, the Asset that a text means; everything else as it is.

    Raises
    ------
    RemoteError : the address is of no file, or of several.
    """
    if not is_address(source):
        return Path(os.path.expanduser(source)) if isinstance(source, str | PathLike) else source
    first, *more = assets(source)
    if more:
        raise RemoteError(
            "the address is of more than one file",
            file=public_uri(source),
            found=f"{len(more) + 1} files, the first is {first.path}",
            remedy="the address of one",
        )
    return first


def _last_name(url: str) -> str:
    """The file name at the end of a URL, without parts that could lead out of a folder."""
    return Path(unquote(urlsplit(url).path).replace("\\", "/")).name or "recording.nwb"


def dandi_address(text: str) -> str:
    """An address in any of dandi's forms, as dandi's client understands it.

    A text of another form is returned as it is: dandi is to judge it.

    >>> dandi_address("DANDI:000140@draft/sub-Jenkins")
    'dandi://dandi/000140@draft/sub-Jenkins/'
    """
    match = DANDI_ADDRESS.fullmatch(text)
    if match is None:
        return text
    version = f"@{match['version']}" if match["version"] else ""
    path = match["path"] or ""
    folder = "/" if path and not path.endswith((".nwb", "/")) else ""
    return f"dandi://dandi/{match['number']}{version}" + (f"/{path}{folder}" if path else "")


def _in_archive(address: str) -> list[Asset]:
    """The NWB files that DANDI lists at an address.

    UNTESTED: no test has an archive to ask. Embargoed dandisets are not supported.

    Raises
    ------
    RemoteError : dandi's client is not installed, or it or the archive fails in whatever way.
    """
    try:
        from dandi.dandiarchive import parse_dandi_url
    except ModuleNotFoundError as error:
        raise RemoteError(
            "dandi:// needs dandi's client", file=address, found=str(error), remedy=NEED_DANDI
        ) from None
    # It would show tracebacks of errors that are reported here in a line
    logging.getLogger("dandi").setLevel(logging.CRITICAL)
    try:
        with parse_dandi_url(address).navigate() as (_, _, listed):
            return [_asset_of(each) for each in listed if each.path.endswith(".nwb")]
    except Exception as error:  # of dandi or its archive: the user can check address and net only
        raise RemoteError(
            "DANDI does not find the address",
            file=address,
            found=f"{type(error).__name__}: {error}"[:300],
            remedy="check the address on dandiarchive.org, and the net",
        ) from error


def _asset_of(listed: Any) -> Asset:
    """The Asset of an entry of dandi's client.

    Its bytes come from the archive's storage, its address is that of the archive. RemoteError where
    its path would lead out of the dandiset.
    """
    path = PurePosixPath(listed.path)
    if path.is_absolute() or ".." in path.parts:
        raise RemoteError(
            "the archive gives a path that leads out of its dandiset", file=listed.path
        )
    digest = listed.get_raw_metadata().get("digest", {}).get("dandi:sha2-256")
    url = listed.get_content_url(
        regex=r"(?<!/download/)$"
    )  # the other one leads here, with every request anew
    return Asset(url, listed.base_download_url, path, f"sha256:{digest}" if digest else None)
