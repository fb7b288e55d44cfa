"""Index columns of old files in the form that today's schema wants; their values stay.

Adding to a file caches today's schema in it, and a validator then holds the old parts to it too: an
index that NWB 2.1 let be a signed integer without a description is an error from then on, which the
source lacks under the same call.
"""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np


def upgrade_indexes(path: Path) -> list[str]:
    """Make every VectorIndex of a (private) file unsigned and described.

    Returns
    -------
    The paths of those that were not.
    """
    with h5py.File(path, "r+") as file:
        found: list[str] = []
        file.visititems(lambda name, item: found.append(name) if _is_old_index(item) else None)
        targets = {name: file[file[name].attrs["target"]].name for name in _indexes(file)}
        for name in found:
            _renew(file, name, targets[name])
        # Also of indexes that stay: in a doubly ragged column one refers to another, maybe new
        for name, target in targets.items():
            file[name].attrs["target"] = file[target].ref
    return found


def _indexes(file: h5py.File) -> list[str]:
    """Paths of all VectorIndex datasets."""
    names: list[str] = []
    file.visititems(lambda name, item: names.append(name) if _is_index(item) else None)
    return names


def _is_index(item: h5py.Group | h5py.Dataset) -> bool:
    """Whether an object is a VectorIndex that says of which column."""
    if not isinstance(item, h5py.Dataset):
        return False
    return item.attrs.get("neurodata_type") == "VectorIndex" and "target" in item.attrs


def _is_old_index(item: h5py.Group | h5py.Dataset) -> bool:
    """Whether an object is a VectorIndex that today's schema does not allow."""
    return _is_index(item) and (item.dtype.kind != "u" or "description" not in item.attrs)


def _renew(file: h5py.File, name: str, target: str) -> None:
    """Write an index anew: unsigned, with its attributes and a description as hdmf writes it.

    Parameters
    ----------
    name, target : paths of the index and of the column that it is of.
    """
    old = file[name]
    attributes = dict(old.attrs)
    attributes.setdefault("description", f"Index for VectorData '{target.rpartition('/')[2]}'")
    values = old[()]
    del file[name]
    new = file.create_dataset(name, data=values.astype(np.dtype(f"u{values.dtype.itemsize}")))
    for key, value in attributes.items():
        new.attrs[key] = value
