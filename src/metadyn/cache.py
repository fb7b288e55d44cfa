"""The one folder on this machine in which something is kept from run to run."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """The folder of parts of remote files and of compiled kernels; it may be deleted at any time.

    METADYN_CACHE, else ndx-metadyn in XDG_CACHE_HOME, else ~/.cache/ndx-metadyn. RuntimeError where
    the user has no home.
    """
    own = os.environ.get("METADYN_CACHE")
    if own:
        return Path(own)
    shared = os.environ.get("XDG_CACHE_HOME")
    return Path(shared or Path.home() / ".cache") / "ndx-metadyn"
