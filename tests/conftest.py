"""Shared fixtures. Real recordings are found by METADYN_DATA (default ../shared/data beside the checkout)."""

import os
from pathlib import Path

import pytest

REAL_DATA = Path(os.environ.get("METADYN_DATA", Path(__file__).parents[2] / "shared" / "data"))


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real recordings; skips where it is absent."""
    if not REAL_DATA.is_dir():
        pytest.skip(f"no real recordings at {REAL_DATA}; set METADYN_DATA")
    return REAL_DATA
