"""NWB files on the net: what may stand in place of a path, and where such a file's bytes are."""

from __future__ import annotations

import logging
import os
import re
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path, PurePosixPath
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
    """A file on the net. `url` is where its bytes are, with what was given to be let in, and is
    never stored or shown.

    uri : how others find it. path : its name, in a dandiset with the folders there. digest :
    `sha256:…` of its bytes, where the archive says it.
    """

    url: str = field(repr=False)
    uri: str
    path: PurePosixPath
    digest: str | None = None

    def __str__(self) -> str:
        return self.uri


def is_address(source: object) -> bool:
    """Whether this is the text of an address, not a path."""
    return isinstance(source, str) and source.startswith(SCHEMES)


def assets(address: str) -> list[Asset]:
    """The NWB files at an address: one at `https://…`, those of a dandiset or of a folder in it at
    `dandi://…`.

    Raises RemoteError where DANDI has no such file.
    """
    if not address.startswith("dandi://"):
        return [Asset(address, public_uri(address), PurePosixPath(_last_name(address)))]
    found = _in_archive(dandi_address(address))
    if not found:
        remedy = "an address as dandi has it: dandi://DANDI:000123/sub-A/sub-A_ecephys.nwb, or dandi://DANDI:000123/sub-A"
        raise RemoteError("there is no NWB file at this address", file=address, remedy=remedy)
    return found


def located(source):
    """Text as the Path or, of an address, the Asset that it means, all else as it is; RemoteError
    where it means several."""
    if not is_address(source):
        return Path(os.path.expanduser(source)) if isinstance(source, str | PathLike) else source
    first, *more = assets(source)
    if more:
        found, remedy = f"{len(more) + 1} files, the first is {first.path}", "the address of one"
        raise RemoteError(
            "the address is of more than one file",
            file=public_uri(source),
            found=found,
            remedy=remedy,
        )
    return first


def _last_name(url: str) -> str:
    """The file name at the end of a URL, without what could lead out of a folder."""
    return Path(unquote(urlsplit(url).path).replace("\\", "/")).name or "recording.nwb"


def dandi_address(text: str) -> str:
    """`dandi://DANDI:000123@draft/sub-A`, `DANDI:000123/0.210812.1455`, `000123`, … as dandi's
    client understands them.

    What is of another form is dandi's to judge.
    """
    match = DANDI_ADDRESS.fullmatch(text)
    if match is None:
        return text
    version = f"@{match['version']}" if match["version"] else ""
    path = match["path"] or ""
    folder = "/" if path and not path.endswith((".nwb", "/")) else ""
    return f"dandi://dandi/{match['number']}{version}" + (f"/{path}{folder}" if path else "")


def _in_archive(address: str) -> list[Asset]:
    """The NWB files that DANDI lists. UNTESTED: no test has an archive to ask. Embargoed dandisets
    are not supported."""
    try:
        from dandi.dandiarchive import parse_dandi_url
    except ModuleNotFoundError as error:
        raise RemoteError(
            "dandi:// needs dandi's client", file=address, found=str(error), remedy=NEED_DANDI
        ) from None
    logging.getLogger("dandi").setLevel(
        logging.CRITICAL
    )  # it shows tracebacks of what is said here in a line
    try:
        with parse_dandi_url(address).navigate() as (_, _, listed):
            return [_asset_of(each) for each in listed if each.path.endswith(".nwb")]
    except Exception as error:  # whatever dandi or its archive says, it is the address or the net that a person must look at
        found, remedy = (
            f"{type(error).__name__}: {error}"[:300],
            "check the address on dandiarchive.org, and the net",
        )
        raise RemoteError(
            "DANDI does not find the address", file=address, found=found, remedy=remedy
        ) from error


def _asset_of(listed) -> Asset:
    """An asset as dandi's client lists it: its bytes come from the archive's storage, its address
    is that of the archive."""
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
