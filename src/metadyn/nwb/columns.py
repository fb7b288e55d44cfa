"""The columns of a DynamicTable as a DataFrame.

A cell holds one value, or the distinct values of a ragged row.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from hdmf.common import DynamicTable, DynamicTableRegion, EnumData, VectorData, VectorIndex
from hdmf.container import AbstractContainer
from hdmf.utils import get_data_shape

from ndx_metadyn.values import read_values

# Ragged columns of a Units table that are no property of a unit
SPIKE_COLUMNS = ("spike_times", "obs_intervals")


def columns_of(table: DynamicTable) -> dict[str, VectorData]:
    """Every column of the table by name, index columns included."""
    return {column.name: column for column in table.columns}


def table_frame(table: DynamicTable) -> pd.DataFrame:
    """The properties of each row of a table.

    Which columns there are, by what the file stores:

    * one number, text or reference a row: that value; of an enumerated value its text, of a
      reference the name of the object.
    * a ragged column of texts or references: a tuple of the distinct values of each row.
    * a ragged column of numbers: that number, or NaN for a row without one; the column is left out
      where some row has more than one.
    * a region of another table: the ids of the rows it refers to and, under their names, the
      columns of that table which this one does not have itself (`location` of a unit's electrodes);
      None where a row refers to nothing.

    Vectors and ragged numbers stay in the file.

    Returns
    -------
    DataFrame, rows in the file's order, indexed by their ids.
    """
    own: dict[str, Any] = {}
    regions: dict[str, tuple[DynamicTableRegion, np.ndarray | None]] = {}
    for name, column, ends in _value_columns(table):
        if isinstance(column, DynamicTableRegion):
            regions[name] = column, ends
        elif (values := _flat_entries(column, len(table), ends)) is not None:
            own[name] = values if ends is None else _by_row(values, ends)
    columns: dict[str, Any] = {name: values for name, values in own.items() if values is not None}
    for name, (column, ends) in regions.items():
        columns = {**_referred(name, column, ends, len(table)), **columns}
    order = [name for name in own if name in columns] + [
        name for name in columns if name not in own
    ]
    return pd.DataFrame({name: columns[name] for name in order}, index=_ids(table))


def _ids(table: DynamicTable) -> pd.Index:
    """The ids of the rows; row numbers where the file does not have one for each."""
    ids = read_values(table.id.data).ravel()
    return pd.Index(ids if len(ids) == len(table) else range(len(table)), name="id")


def _value_columns(table: DynamicTable) -> Iterator[tuple[str, VectorData, np.ndarray | None]]:
    """The columns that hold values, not indexes of others.

    Yields
    ------
    Name, column, and where the entries of each row end (row,), through all its indexes; None for
    the latter where the column is not ragged.
    """
    columns = columns_of(table)
    inner = {column.target.name for column in columns.values() if isinstance(column, VectorIndex)}
    inner |= {column.elements.name for column in columns.values() if isinstance(column, EnumData)}
    for name, column in columns.items():
        ends = None
        if name in inner:
            continue
        while isinstance(column, VectorIndex):
            bounds = np.concatenate([[0], read_values(column.data).ravel().astype(np.int64)])
            ends = bounds[1:] if ends is None else bounds[ends]
            column = column.target
        if ends is None or (len(ends) == len(table) > 0 and column.name not in SPIKE_COLUMNS):
            yield column.name, column, ends


def _flat_entries(column: VectorData, n_rows: int, ends: np.ndarray | None) -> np.ndarray | None:
    """The entries (entry,) of a column of numbers, texts or references, rows end to end.

    None for vectors and whatever else; None too for several numbers a row (an amplitude for each
    spike), which are as many as the spikes and are not read.

    Parameters
    ----------
    n_rows : of the table.
    ends : where the entries of each row end (row,); None for one entry a row.
    """
    shape = get_data_shape(column.data)
    n_entries = n_rows if ends is None else int(ends[-1])
    if not shape or math.prod(shape) != n_entries:
        return None
    if n_entries == 0:
        return np.empty(0)
    first = column.data[0]
    if isinstance(first, AbstractContainer):
        return np.array([each.name for each in column.data[:]], dtype=object)
    while isinstance(first, list | np.ndarray) and len(first):  # of a column (row, 1)
        first = first[0]
    if not isinstance(first, str | bytes | numbers.Number | np.bool_):
        return None
    is_number = isinstance(first, numbers.Number)
    is_code = isinstance(column, EnumData | DynamicTableRegion)  # of a text, of a row
    if is_number and not is_code and _several(ends):
        return None
    values = _texts(read_values(column.data).ravel())
    return _enumerated(column, values) if isinstance(column, EnumData) else values


def _several(ends: np.ndarray | None) -> bool:
    """Whether some row of a ragged column has more than one entry."""
    return ends is not None and bool(np.diff(ends, prepend=0).max() > 1)


def _texts(values: np.ndarray) -> np.ndarray:
    """Texts (entry,) decoded where the file has bytes; numbers as they are."""
    if values.dtype.kind not in "OS":
        return values
    decoded = [
        value.decode(errors="replace") if isinstance(value, bytes) else value for value in values
    ]
    return np.array(decoded, dtype=object)


def _enumerated(column: EnumData, codes: np.ndarray) -> np.ndarray:
    """The texts (entry,) that the codes stand for; None for a code that stands for none."""
    texts = pd.Series(_texts(read_values(column.elements.data).ravel()), dtype=object)
    return texts.reindex(codes).to_numpy()


def _by_row(values: np.ndarray, ends: np.ndarray) -> np.ndarray | list[tuple] | None:
    """Entries (entry,) sorted into rows.

    Returns
    -------
    A tuple of distinct texts for each row, or a number (row,) with NaN for none; None where some
    row has several numbers.
    """
    if values.dtype.kind in "OU":
        return _distinct(*_codes(values), ends)
    if _several(ends):
        return None
    single = np.full(len(ends), np.nan)
    single[np.diff(ends, prepend=0) == 1] = values
    return single


def _codes(values: Any) -> tuple[np.ndarray, np.ndarray | pd.Index]:
    """A code for each value (entry,), and the distinct values that the codes count.

    The code is -1 for NaN, None and empty text.
    """
    codes, kinds = pd.factorize(values)
    empty = np.flatnonzero(np.asarray(kinds, dtype=object) == "")
    return np.where(np.isin(codes, empty), -1, codes), kinds


def _distinct(codes: np.ndarray, kinds: np.ndarray | pd.Index, ends: np.ndarray) -> list[tuple]:
    """The distinct values of each row.

    Parameters
    ----------
    codes : (entry,), entry i has value `kinds[codes[i]]`, none where the code is negative.
    kinds : the values.
    ends : (row,), where the entries of each row end.
    """
    row = np.repeat(np.arange(len(ends)), np.diff(ends, prepend=0))
    there = codes >= 0
    row, codes = np.divmod(np.unique(row[there] * len(kinds) + codes[there]), max(len(kinds), 1))
    values = np.asarray(kinds)[codes].tolist()
    bounds = np.searchsorted(row, np.arange(len(ends) + 1))
    return [tuple(values[first:last]) for first, last in pairwise(bounds)]


def _referred(name: str, region: DynamicTableRegion, ends: np.ndarray | None, n_rows: int) -> dict:
    """The rows of another table that a region refers to, with that table's columns.

    Returns
    -------
    dict of column name -> values by row; under `name` the ids of the rows. Empty where the region
    cannot be read.
    """
    rows = _flat_entries(region, n_rows, ends)
    if rows is None:
        return {}
    target = _plain_frame(region.table)
    rows = np.where((rows >= 0) & (rows < len(target)), rows, -1).astype(np.int64)
    target = target.assign(**{name: target.index}).reset_index(drop=True)
    if ends is None:
        return {key: target[key].reindex(rows).to_numpy() for key in target}
    return {key: _of_rows(target[key], rows, ends) for key in target}


def _plain_frame(table: DynamicTable) -> pd.DataFrame:
    """The columns of a table that have one value a row."""
    plain = {
        name: _flat_entries(column, len(table), None)
        for name, column, ends in _value_columns(table)
        if ends is None
    }
    return pd.DataFrame(
        {name: values for name, values in plain.items() if values is not None}, index=_ids(table)
    )


def _of_rows(values: pd.Series, rows: np.ndarray, ends: np.ndarray) -> list[tuple | None]:
    """The distinct values of each row of a ragged region; None for a row without any.

    Parameters
    ----------
    values : of the table that the region refers to.
    rows : (entry,), rows of that table, -1 for none; `ends` as in `_distinct`.
    """
    codes, kinds = _codes(values)
    found = _distinct(np.append(codes, -1)[rows], kinds, ends)  # the last for rows that are none
    return [each or None for each in found]
