"""The columns of a DynamicTable as a DataFrame: one value a row, or the distinct values of a ragged
row."""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pandas as pd
from hdmf.common import DynamicTable, DynamicTableRegion, EnumData, VectorData, VectorIndex
from hdmf.container import AbstractContainer
from hdmf.utils import get_data_shape

from ndx_metadyn.values import read_values

SPIKE_COLUMNS = (
    "spike_times",
    "obs_intervals",
)  # ragged columns of a Units table that are no property of a unit


def columns_of(table: DynamicTable) -> dict[str, VectorData]:
    """Every column of the table by name, index columns included."""
    return {column.name: column for column in table.columns}


def table_frame(table: DynamicTable) -> pd.DataFrame:
    """What the table says of each row, rows in the file's order; the index holds their ids.

    A column of one number, text or reference a row gives one value a row: of an enumerated value
    its text, of a reference the name of the object. A ragged column of texts or references gives a
    tuple of the distinct values of each row, one of numbers is read where no row has more than one
    (NaN where it has none). A region of another table gives the ids of the rows it refers to and,
    under their names, the columns of that table which this one has not itself (`location` of a
    unit's electrodes); None where a row refers to nothing. What remains, vectors and ragged
    numbers, stays in the file.
    """
    own, regions = {}, {}
    for name, column, ends in _value_columns(table):
        if isinstance(column, DynamicTableRegion):
            regions[name] = column, ends
        elif (values := _flat_entries(column, len(table), ends)) is not None:
            own[name] = values if ends is None else _by_row(values, ends)
    columns = {name: values for name, values in own.items() if values is not None}
    for name, (column, ends) in regions.items():
        columns = {**_referred(name, column, ends, len(table)), **columns}
    order = [name for name in own if name in columns] + [
        name for name in columns if name not in own
    ]
    return pd.DataFrame({name: columns[name] for name in order}, index=_ids(table))


def _ids(table: DynamicTable) -> pd.Index:
    ids = read_values(table.id.data).ravel()
    return pd.Index(ids if len(ids) == len(table) else range(len(table)), name="id")


def _value_columns(table: DynamicTable) -> Iterator[tuple[str, VectorData, np.ndarray | None]]:
    """Name and column of values, and where the entries of each row end (row,) if it is ragged, over
    however many indexes."""
    columns = columns_of(table)
    inner = {column.target.name for column in columns.values() if isinstance(column, VectorIndex)}
    inner |= {column.elements.name for column in columns.values() if isinstance(column, EnumData)}
    for name, column in columns.items():
        ends = None
        if name in inner:
            continue
        while isinstance(column, VectorIndex):
            bounds = np.concatenate([[0], read_values(column.data).ravel().astype(np.int64)])
            ends, column = bounds[1:] if ends is None else bounds[ends], column.target
        if ends is None or (len(ends) == len(table) > 0 and column.name not in SPIKE_COLUMNS):
            yield column.name, column, ends


def _flat_entries(column: VectorData, n_rows: int, ends: np.ndarray | None) -> np.ndarray | None:
    """The entries (entry,) of a column of numbers, texts or references; None for vectors and all
    else.

    None too for several numbers a row (an amplitude of each spike), which are as many as the spikes
    and are not read.
    """
    shape, n_entries = get_data_shape(column.data), n_rows if ends is None else int(ends[-1])
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
    if (
        isinstance(first, numbers.Number)
        and not isinstance(column, EnumData | DynamicTableRegion)
        and _several(ends)
    ):
        return None
    values = _texts(read_values(column.data).ravel())
    return _enumerated(column, values) if isinstance(column, EnumData) else values


def _several(ends: np.ndarray | None) -> bool:
    """Whether some row of a ragged column has more than one entry."""
    return ends is not None and bool(np.diff(ends, prepend=0).max() > 1)


def _texts(values: np.ndarray) -> np.ndarray:
    if values.dtype.kind not in "OS":
        return values
    decoded = [
        value.decode(errors="replace") if isinstance(value, bytes) else value for value in values
    ]
    return np.array(decoded, dtype=object)


def _enumerated(column: EnumData, codes: np.ndarray) -> np.ndarray:
    """The texts that the codes stand for, None for a code that stands for none."""
    texts = pd.Series(_texts(read_values(column.elements.data).ravel()), dtype=object)
    return texts.reindex(codes).to_numpy()


def _by_row(values: np.ndarray, ends: np.ndarray) -> np.ndarray | list[tuple] | None:
    if values.dtype.kind in "OU":
        return _distinct(*_codes(values), ends)
    if _several(ends):
        return None
    single = np.full(len(ends), np.nan)
    single[np.diff(ends, prepend=0) == 1] = values
    return single


def _codes(values) -> tuple[np.ndarray, np.ndarray | pd.Index]:
    """A number for each value and the distinct values that the numbers count; -1 for NaN, None and
    empty text."""
    codes, kinds = pd.factorize(values)
    return np.where(
        np.isin(codes, np.flatnonzero(np.asarray(kinds, dtype=object) == "")), -1, codes
    ), kinds


def _distinct(codes: np.ndarray, kinds: np.ndarray | pd.Index, ends: np.ndarray) -> list[tuple]:
    """The distinct values of each row: entry i has value `kinds[codes[i]]`, none where the code is
    negative."""
    row = np.repeat(np.arange(len(ends)), np.diff(ends, prepend=0))
    there = codes >= 0
    row, codes = np.divmod(np.unique(row[there] * len(kinds) + codes[there]), max(len(kinds), 1))
    values = np.asarray(kinds)[codes].tolist()
    return [
        tuple(values[first:last])
        for first, last in pairwise(np.searchsorted(row, np.arange(len(ends) + 1)))
    ]


def _referred(name: str, region: DynamicTableRegion, ends: np.ndarray | None, n_rows: int) -> dict:
    """The ids of the rows of another table that a region refers to, as column `name`, and that
    table's columns."""
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
    """The columns of one value a row."""
    plain = {
        name: _flat_entries(column, len(table), None)
        for name, column, ends in _value_columns(table)
        if ends is None
    }
    return pd.DataFrame(
        {name: values for name, values in plain.items() if values is not None}, index=_ids(table)
    )


def _of_rows(values: pd.Series, rows: np.ndarray, ends: np.ndarray) -> list[tuple | None]:
    codes, kinds = _codes(values)
    found = _distinct(np.append(codes, -1)[rows], kinds, ends)  # the last for rows that are none
    return [each or None for each in found]
