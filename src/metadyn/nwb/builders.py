"""Tables that pynwb refuses to construct though their meaning is plain, mended while reading."""

from __future__ import annotations

import numpy as np
from hdmf.build import DatasetBuilder, GroupBuilder


def mend_tables(group: GroupBuilder) -> None:
    """Mend the tables at and below a group, in the tree that pynwb constructs its objects from.

    Blanks that pad column names are stripped, and the scalar columns of a table of one row get
    their one dimension. The file is not changed.

    Parameters
    ----------
    group : builder of the root or of any group; changed in place.
    """
    if "colnames" in group.attributes:
        names = [_decoded(name).strip() for name in np.ravel(group.attributes["colnames"])]
        group.attributes["colnames"] = np.array(names, dtype=object)
        for column in group.datasets.values():
            _as_column(column)
    for below in group.groups.values():
        mend_tables(below)


def _as_column(dataset: DatasetBuilder) -> None:
    """Give a scalar dataset the shape (row,) of a column; others stay."""
    if getattr(dataset.data, "shape", ()) == () and not isinstance(dataset.data, list):
        dict.__setitem__(dataset, "data", np.array([dataset.data]))


def _decoded(name: str | bytes) -> str:
    """A column name, which old writers stored as bytes."""
    return name.decode() if isinstance(name, bytes) else str(name)
