"""Validation errors of a written file that its source does not have."""

from __future__ import annotations

import warnings
from collections import Counter
from pathlib import Path

import pynwb
from hdmf.backends.warnings import BrokenLinkWarning

from metadyn.errors import WriteError
from metadyn.nwb.upgrade import upgrade_indexes


def assert_no_worse(written: Path, source: Path) -> None:
    """Compare the validation errors of two files, under the same call of `pynwb.validate`.

    Errors that come from an old file's indexes are mended in `written`.

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
    """Validation errors of `written` beyond those of `source`, sorted.

    Both files are validated with their cached namespaces or, where the validator fails on these,
    without.
    """
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
    """The errors of one call, by how often they occur.

    None where the validator itself fails (on a namespace that a file caches in part).

    Parameters
    ----------
    cached : whether the namespaces that the file has cached are used.
    """
    try:
        with warnings.catch_warnings():
            # `metadyn.nwb.links` has warned of links that lead nowhere
            warnings.simplefilter("ignore", BrokenLinkWarning)
            errors = pynwb.validate(path=str(path), use_cached_namespaces=cached)
            return Counter(str(error) for error in errors)
    except (KeyError, ValueError):
        return None
