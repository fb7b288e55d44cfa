"""The scalar columns of a DynamicTable as a DataFrame; ragged, vector and reference columns stay in the file."""

from __future__ import annotations

import numbers

import numpy as np
import pandas as pd
from hdmf.common import DynamicTable, DynamicTableRegion, VectorData, VectorIndex
from hdmf.utils import get_data_shape
from pynwb import NWBFile

from ndx_metadyn.values import values_of


def columns_of(table: DynamicTable) -> dict[str, VectorData]:
    """Every column of the table by name, index columns included."""
    return {column.name: column for column in table.columns}


def scalar_frame(table: DynamicTable) -> pd.DataFrame:
    """The columns of one number or string a row, rows in the file's order and numbered from 0."""
    columns = columns_of(table)
    ragged = {column.target.name for column in columns.values() if isinstance(column, VectorIndex)}
    scalars = {name: column for name, column in columns.items() if name not in ragged and _is_scalar(column)}
    values = {name: _values(column) for name, column in scalars.items()}
    return pd.DataFrame(values, index=pd.RangeIndex(len(table)))


def _is_scalar(column: VectorData) -> bool:
    if isinstance(column, VectorIndex | DynamicTableRegion):
        return False
    shape = get_data_shape(column.data)
    if shape is None or len(shape) != 1:
        return False
    return shape[0] == 0 or isinstance(column.data[0], str | bytes | numbers.Number | np.generic)


def _values(column: VectorData) -> np.ndarray:
    values = values_of(column.data)
    if values.dtype.kind in "OS":
        return np.array([value.decode() if isinstance(value, bytes) else value for value in values], dtype=object)
    return values


def interval_tables(nwbfile: NWBFile) -> dict[str, pd.DataFrame]:
    """Every interval table (trials, epochs, invalid_times and the lab's own) by name."""
    named = {name: getattr(nwbfile, name) for name in ("trials", "epochs", "invalid_times")}
    tables = {name: table for name, table in named.items() if table is not None} | dict(nwbfile.intervals)
    return {name: scalar_frame(table) for name, table in tables.items()}
