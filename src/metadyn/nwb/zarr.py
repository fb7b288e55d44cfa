"""Zarr stores are neither read nor written; why: docs/decisions/no-zarr.md."""

from __future__ import annotations

from pathlib import Path

from metadyn.errors import DataError, WriteError

# Files of a group in format 2, of its consolidated metadata, and of format 3
MARKS = (".zgroup", ".zmetadata", "zarr.json")
WHY = (
    "hdmf-zarr, up to 0.13, keeps references between objects as pickles, which run any code "
    "when read; numcodecs refuses them"
)


def is_zarr(path: Path) -> bool:
    """Whether a path names a Zarr store, or is one.

    >>> is_zarr(Path("session.nwb.zarr"))
    True
    """
    return path.suffix == ".zarr" or any((path / mark).is_file() for mark in MARKS)


def refuse_to_read(store: Path) -> DataError:
    """The error for a store that was given in place of an NWB file."""
    remedy = (
        "the recording's HDF5 file; or, if you trust the store, pip install hdmf-zarr in an "
        "environment of its own and export it to HDF5 (docs/decisions/no-zarr.md)"
    )
    return DataError("Zarr stores are not read", file=store, found=WHY, remedy=remedy)


def refuse_to_write(target: Path) -> WriteError:
    """The error for a target that names a store."""
    remedy = (
        "an `output` that ends in .nwb; and for a store of a file that you trust, "
        "pip install hdmf-zarr in an environment of its own (docs/decisions/no-zarr.md)"
    )
    return WriteError("nothing is exported to Zarr", file=target, found=WHY, remedy=remedy)
