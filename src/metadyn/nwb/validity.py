"""What is wrong with a file that was not wrong with its source."""

from __future__ import annotations

import warnings
from collections import Counter
from pathlib import Path

import pynwb
from hdmf.backends.warnings import BrokenLinkWarning

from metadyn.errors import WriteError
from metadyn.nwb.upgrade import upgrade_indexes


def assert_no_worse(written: Path, source: Path) -> None:
    """Compare `pynwb.validate` of both files under the same call; what only an old file's indexes
    lack is mended in `written`.

    Raises
    ------
    WriteError : `written` has an error that `source` lacks.
    """
    new = new_errors(written, source)
    if new and upgrade_indexes(written):
        new = new_errors(written, source)
    if new:
        raise WriteError(
            "the result would not be valid NWB; nothing was changed",
            file=source,
            found="; ".join(new[:3]),
            remedy="please report this with the file's `metadyn inspect`",
        )


def new_errors(written: Path, source: Path) -> list[str]:
    """Validation errors of `written` beyond those of `source`, both with or both without cached
    namespaces."""
    for cached in (True, False):
        errors = _errors(written, cached)
        if errors is None:
            continue
        if not errors:
            return []
        known = _errors(source, cached)
        if known is not None:
            return sorted((errors - known).elements())
    return []


def _errors(path: Path, cached: bool) -> Counter[str] | None:
    """The errors of one call; None where the validator itself fails (a namespace that a file caches
    in part)."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", BrokenLinkWarning
            )  # of what links lead to `metadyn.nwb.links` has told
            return Counter(
                str(error) for error in pynwb.validate(path=str(path), use_cached_namespaces=cached)
            )
    except (KeyError, ValueError):
        return None
