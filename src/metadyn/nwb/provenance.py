"""What a result says of its making: data, settings and software, as one JSON object and a few
attributes."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from metadyn.records import Source

NO_SECRET = (
    "versionId",
    "persistentId",
    "fileId",
    "id",
    "path",
    "location",
)  # parameters of a URL; of others who knows
SOFTWARE = "ndx-metadyn"
TRACED = ("ndx-metadyn", "torch", "numpy", "pynwb", "hdmf")


def software_version() -> str:
    return version(SOFTWARE)


def run_parameters(
    source: Source, settings: dict[str, Any], units_object_id: str | None
) -> dict[str, Any]:
    """Settings of preprocessing and inference, what they were applied to, and with which software;
    JSON-able."""
    return {
        **settings,
        "source": {
            **describe_source(source),
            "units_object_id": units_object_id or source.units_object_id,
        },
        "software": software_versions(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def describe_source(source: Source) -> dict[str, str]:
    """What is known of a file, without the folders of the machine it lay on; what is absent stays
    absent."""
    known = {
        name: getattr(source, name)
        for name in ("identifier", "object_id", "units_object_id", "digest")
    }
    return {
        name: value
        for name, value in {"uri": public_uri(source.uri), **known}.items()
        if value is not None
    }


def public_uri(uri: str | None) -> str | None:
    """A URI without user, password, signature and token; of a path on this machine, the file name
    only."""
    if uri is None:
        return None
    parts = urlsplit(str(uri))
    if parts.scheme in ("", "file"):
        return Path(parts.path).name
    query = urlencode(
        [(name, value) for name, value in parse_qsl(parts.query) if name in NO_SECRET]
    )
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query=query, fragment="").geturl()


def file_digest(path: str | Path) -> str:
    """`sha256:` and the digest of a file's bytes, read in blocks."""
    with Path(path).open("rb") as stream:
        return f"sha256:{hashlib.file_digest(stream, 'sha256').hexdigest()}"


def software_versions() -> dict[str, str]:
    return {name: found for name in TRACED if (found := _installed_version(name))}


def to_json(values: dict[str, Any]) -> str:
    """A JSON object with sorted keys; NaN is refused because JSON has none."""
    return json.dumps(values, sort_keys=True, allow_nan=False, default=_json_value)


def _json_value(value: Any) -> Any:
    """numpy scalars and arrays, tuples of records and paths as plain JSON values."""
    return value.tolist() if hasattr(value, "tolist") else str(value)


def _installed_version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
