"""The origin of a result: data, settings and software, as one JSON object and a few attributes."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from metadyn.records import Source

# Parameters of a URL that are no credentials, as any other may be
NO_SECRET = ("versionId", "persistentId", "fileId", "id", "path", "location")
SOFTWARE = "ndx-metadyn"
TRACED = ("ndx-metadyn", "torch", "numpy", "pynwb", "hdmf")


def software_version() -> str:
    """The version of this package."""
    return version(SOFTWARE)


def run_parameters(
    source: Source, settings: dict[str, Any], units_object_id: str | None
) -> dict[str, Any]:
    """Settings of a run, the data that they were applied to, and the software.

    Parameters
    ----------
    settings : of preprocessing and inference.
    units_object_id : of the Units table that was read; by default the source's.

    Returns
    -------
    dict that `to_json` can write.
    """
    units_object_id = units_object_id or source.units_object_id
    return {
        **settings,
        "source": {**describe_source(source), "units_object_id": units_object_id},
        "software": software_versions(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def describe_source(source: Source) -> dict[str, str]:
    """The facts known of a file, without the folders of the machine it lay on.

    Facts that are not known are absent.

    >>> describe_source(Source(uri="/home/jo/a.nwb", identifier="a"))
    {'uri': 'a.nwb', 'identifier': 'a'}
    """
    known = {
        "uri": public_uri(source.uri),
        "identifier": source.identifier,
        "object_id": source.object_id,
        "units_object_id": source.units_object_id,
        "digest": source.digest,
    }
    return {name: value for name, value in known.items() if value is not None}


def public_uri(uri: str | None) -> str | None:
    """A URI without user, password, signature and token; of a path here, the file name only.

    >>> public_uri("https://jo:secret@example.org/a.nwb?versionId=3&sig=abc")
    'https://example.org/a.nwb?versionId=3'
    """
    if uri is None:
        return None
    parts = urlsplit(str(uri))
    if parts.scheme in ("", "file"):
        return Path(parts.path).name
    shown = [(name, value) for name, value in parse_qsl(parts.query) if name in NO_SECRET]
    host = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=host, query=urlencode(shown), fragment="").geturl()


def file_digest(path: str | Path) -> str:
    """`sha256:` and the digest of a file's bytes, read in blocks."""
    with Path(path).open("rb") as stream:
        return f"sha256:{hashlib.file_digest(stream, 'sha256').hexdigest()}"


def software_versions() -> dict[str, str]:
    """The versions of the packages in TRACED that are installed."""
    return {name: found for name in TRACED if (found := _installed_version(name))}


def to_json(values: dict[str, Any]) -> str:
    """A JSON object with sorted keys.

    Raises
    ------
    ValueError : a value is NaN or infinite, which JSON does not have.

    >>> to_json({"b": (1, 2), "a": None})
    '{"a": null, "b": [1, 2]}'
    """
    return json.dumps(values, sort_keys=True, allow_nan=False, default=_json_value)


def _json_value(value: Any) -> Any:
    """A value that JSON does not know: numpy's as numbers or lists, others as text."""
    return value.tolist() if hasattr(value, "tolist") else str(value)


def _installed_version(package: str) -> str | None:
    """The version of a package, None where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None
