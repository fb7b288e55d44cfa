"""Reading datasets whole, after a check that the file stores what their shape claims.

A shape costs nothing to write: a damaged or hostile file may claim more than any memory holds.
"""

from __future__ import annotations

from typing import Any

import h5py
import numpy as np
from hdmf.data_utils import DataIO

# Bytes that are read unchecked: constant columns and evenly spaced times, which compress to almost
# nothing, are not longer
UNPROVEN = 2**28
PACKING = 100  # the factor by which compression makes recorded values smaller at most, by far


def read_values(dataset: Any) -> np.ndarray:
    """A dataset as an array in memory.

    Parameters
    ----------
    dataset : an HDF5 or zarr dataset, an array or a list, wrapped in a DataIO or not.

    Raises
    ------
    ValueError : it claims far more than the file stores of it (see `check_claim`).

    >>> read_values([0.5, 1.5])
    array([0.5, 1.5])
    """
    stored = dataset.data if isinstance(dataset, DataIO) else dataset
    check_claim(stored)
    return np.asarray(stored[:])


def check_claim(dataset: Any) -> None:
    """Raise ValueError for an HDF5 dataset that would take far more memory than the file has of it.

    Up to `UNPROVEN` bytes, and up to `PACKING` times its stored size, a dataset passes; so does
    whatever is no HDF5 dataset.
    """
    if not isinstance(dataset, h5py.Dataset) or not dataset.shape:
        return
    claimed = dataset.size * dataset.dtype.itemsize
    stored = dataset.id.get_storage_size()
    if claimed > UNPROVEN and claimed > PACKING * stored:
        raise ValueError(
            f"{dataset.name} claims {claimed:,} bytes, shape {dataset.shape}, "
            f"of which the file stores {stored:,}"
        )
