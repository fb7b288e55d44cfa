"""Datasets read whole, once what they claim to hold is borne out by what the file stores: a shape
costs nothing to write."""

from __future__ import annotations

import h5py
import numpy as np
from hdmf.data_utils import DataIO

UNPROVEN = (
    2**28
)  # bytes read without proof: constant columns and evenly spaced times, packed to nothing, are no longer
PACKING = 100  # times that compression makes recorded values smaller at most, by far


def values_of(dataset) -> np.ndarray:
    """A dataset, wrapped or not, read into memory. Raises ValueError where it claims far more than
    the file stores of it."""
    dataset = dataset.data if isinstance(dataset, DataIO) else dataset
    check_claim(dataset)
    return np.asarray(dataset[:])


def check_claim(dataset) -> None:
    """Raise ValueError for an HDF5 dataset whose values would take far more memory than the file
    has of them."""
    if not isinstance(dataset, h5py.Dataset) or not dataset.shape:
        return
    claimed = dataset.size * dataset.dtype.itemsize
    if claimed > UNPROVEN and claimed > PACKING * (stored := dataset.id.get_storage_size()):
        raise ValueError(
            f"{dataset.name} claims {claimed:,} bytes, shape {dataset.shape}, of which the file stores {stored:,}"
        )
