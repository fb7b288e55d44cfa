"""Tables that pynwb refuses to construct though their meaning is plain, put right on the way from
the file to pynwb."""

from __future__ import annotations

import numpy as np
from hdmf.build import DatasetBuilder, GroupBuilder


def mend_tables(group: GroupBuilder) -> None:
    """Strip the blanks that pad column names, and give the scalar columns of a table of one row
    their one dimension."""
    if "colnames" in group.attributes:
        names = [_decoded(name).strip() for name in np.ravel(group.attributes["colnames"])]
        group.attributes["colnames"] = np.array(names, dtype=object)
        for column in group.datasets.values():
            _as_column(column)
    for below in group.groups.values():
        mend_tables(below)


def _as_column(dataset: DatasetBuilder) -> None:
    if getattr(dataset.data, "shape", ()) == () and not isinstance(dataset.data, list):
        dict.__setitem__(dataset, "data", np.array([dataset.data]))


def _decoded(name: str | bytes) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)
