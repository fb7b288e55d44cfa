"""The stored numbers as labelled xarray Datasets and pynapple objects.

Axes: session trial time unit latent embedding. Times are in seconds on the session clock. xarray
and pynapple are imported only when asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ndx_metadyn.containers.registry import types_by_run_field
from ndx_metadyn.values import read_values

if TYPE_CHECKING:
    import xarray as xr
    from pynwb import TimeSeries

    from ndx_metadyn import (
        DynamicalEmbeddingsTable,
        FiringRateSeries,
        LatentDynamics,
    )
    from ndx_metadyn.containers.series import EstimateSeries

SECONDS = {"units": "s", "long_name": "time on the session clock"}
NO_WINDOW = -1
EMBEDDING_COLUMNS = ("embedding_mean", "embedding_sd")
# pynapple keeps no touching intervals: it takes this much [s] off the first, with a warning
PYNAPPLE_GAP = 1e-6


def bin_times(series: TimeSeries) -> np.ndarray:
    """Bin centres (time,) in seconds.

    Raises
    ------
    ValueError : there are no timestamps, and the rate is no positive number.

    >>> from ndx_metadyn import LatentSeries
    >>> bin_times(LatentSeries(name="z", data=np.zeros((3, 1)), starting_time=1.0, rate=4.0))
    array([1.  , 1.25, 1.5 ])
    """
    if series.timestamps is not None:
        return read_values(series.timestamps)
    if not series.rate > 0 or not np.isfinite(series.starting_time):
        raise ValueError(
            f"'{series.name}' has no times: rate {series.rate} Hz, "
            f"starting_time {series.starting_time} s"
        )
    return series.starting_time + np.arange(len(series.data)) / series.rate


def mean_of(series: EstimateSeries) -> np.ndarray:
    """The mean in its unit, (time, latent or unit)."""
    mean = read_values(series.data)
    is_in_unit = series.conversion == 1.0 and series.offset == 0.0
    return mean if is_in_unit else mean * series.conversion + series.offset


def sd_of(series: EstimateSeries) -> np.ndarray:
    """The SD in the unit of the mean, (time, latent or unit).

    The mean's conversion scales it, its offset does not.
    """
    sd = read_values(series.data_sd)
    return sd if series.conversion == 1.0 else sd * abs(series.conversion)


def unit_labels(series: FiringRateSeries) -> np.ndarray:
    """Ids of the Units rows that the columns describe, (unit,).

    Column numbers where the file does not say which rows these are.

    Raises
    ------
    ValueError : the file names rows that the Units table does not have.
    """
    if series.units is None or series.units.table is None:
        return np.arange(np.shape(series.data)[1])
    ids = read_values(series.units.table.id.data)
    rows = read_values(series.units.data)
    if np.any((rows < 0) | (rows >= len(ids))):
        raise ValueError(
            f"'{series.name}' is of units {rows.min()} to {rows.max()}; "
            f"the table has {len(ids)} rows"
        )
    return ids[rows]


def window_of_bin(table: DynamicalEmbeddingsTable, series: TimeSeries) -> np.ndarray:
    """Row of the table whose window each bin of `series` belongs to, (time,).

    -1 (`NO_WINDOW`) for bins that no row refers to.

    Raises
    ------
    ValueError : the index of the table's references is damaged.
    """
    rows = np.full(len(bin_times(series)), NO_WINDOW)
    if "timeseries" not in table.colnames:
        return rows
    references, counts = _references_by_row(table)
    row_of_reference = np.repeat(np.arange(len(table)), counts)
    for row, (start, count, referred) in zip(row_of_reference, references, strict=True):
        if referred is series and start >= 0:
            rows[start : start + count] = row
    return rows


def _references_by_row(table: DynamicalEmbeddingsTable) -> tuple[Any, np.ndarray]:
    """All references of the column `timeseries`, row after row, and how many each row has."""
    index = table["timeseries"]
    references = index.target.data[:]
    ends = read_values(index.data).astype(np.int64)
    counts = np.diff(ends, prepend=0)
    if len(ends) != len(table) or np.any(counts < 0) or ends[-1:].sum() != len(references):
        raise ValueError(f"the index of timeseries in '{table.name}' is damaged")
    return references, counts


def series_to_xarray(series: EstimateSeries, name: str, axis: str, labels: Any) -> xr.Dataset:
    """A series as a Dataset.

    Parameters
    ----------
    name, axis : of the variable and of its second axis; `labels` are the coordinates of the latter.

    Returns
    -------
    Dataset of `name` and, where stored, `name`_sd, (time, axis), with the unit, the kind of
    estimate and, where there is one, the horizon [s] as attributes.
    """
    import xarray as xr

    attrs = {"units": series.unit, "estimate": series.estimate, "description": series.description}
    if series.horizon is not None:
        attrs["horizon_s"] = series.horizon
    variables = {name: (("time", axis), mean_of(series), attrs)}
    if series.data_sd is not None:
        sd_attrs = {"units": series.unit, "long_name": "posterior standard deviation"}
        variables[f"{name}_sd"] = (("time", axis), sd_of(series), sd_attrs)
    coords = {"time": ("time", bin_times(series), SECONDS), axis: np.asarray(labels)}
    return xr.Dataset(variables, coords=coords)


def series_to_pynapple(series: EstimateSeries, labels: Any) -> Any:
    """pynapple.TsdFrame of the mean, one column a label."""
    import pynapple as nap

    times = bin_times(series)
    return nap.TsdFrame(t=times, d=mean_of(series), columns=list(labels), time_units="s")


def table_to_xarray(table: DynamicalEmbeddingsTable) -> xr.Dataset:
    """Dataset of embedding_mean and embedding_sd (trial, embedding).

    Coordinates by trial: start_time and stop_time [s], `trial` (row of this table) and, where
    stored, `trial_row` (row of the table that the windows were taken from).
    """
    import xarray as xr

    coords: dict[str, Any] = {
        name: ("trial", read_values(table[name].data), SECONDS)
        for name in ("start_time", "stop_time")
    }
    if "trial" in table.colnames:
        attrs = {"long_name": table["trial"].description}
        coords["trial_row"] = ("trial", read_values(table["trial"].data), attrs)
    variables = {
        name: (("trial", "embedding"), read_values(table[name].data), {"units": "a.u."})
        for name in EMBEDDING_COLUMNS
        if name in table.colnames
    }
    coords["trial"] = np.arange(len(table))
    return xr.Dataset(variables, coords=coords, attrs={"scope": table.scope})


def table_to_pynapple(table: DynamicalEmbeddingsTable) -> Any:
    """pynapple.IntervalSet of the windows, with the embeddings as metadata.

    Of two windows that touch the first ends 1 microsecond early, by pynapple's rule.

    Raises
    ------
    ValueError : windows overlap or are out of order: pynapple would join them and drop the
        embeddings.
    """
    import pynapple as nap

    start = read_values(table["start_time"].data)
    stop = read_values(table["stop_time"].data)
    _check_order(table.name, start, stop)
    stop[:-1] -= np.where(start[1:] == stop[:-1], PYNAPPLE_GAP, 0.0)
    columns = [name for name in (*EMBEDDING_COLUMNS, "trial") if name in table.colnames]
    metadata = {name: read_values(table[name].data) for name in columns}
    return nap.IntervalSet(start=start, end=stop, time_units="s", metadata=metadata)


def _check_order(name: str, start: np.ndarray, stop: np.ndarray) -> None:
    """Raise ValueError unless each window (start, stop) [s] ends before the next begins."""
    overlapping = np.flatnonzero(start[1:] < stop[:-1])
    if len(overlapping):
        row = int(overlapping[0])
        raise ValueError(
            f"table '{name}': rows {row} and {row + 1} overlap or are out of order "
            f"({start[row]} to {stop[row]} s, then {start[row + 1]} s); pynapple would join them "
            "and drop the embeddings. Use to_xarray()"
        )


def series_of(run: LatentDynamics) -> dict[str, EstimateSeries]:
    """Every series of a run by its name, whatever its type."""
    found: dict[str, EstimateSeries] = {}
    for field in types_by_run_field():
        found |= getattr(run, field)
    return found


def run_to_xarray(run: LatentDynamics) -> dict[str, xr.Dataset]:
    """Dataset of the table under "embeddings", and of each series under its name.

    `trial` of a bin is the row of its window in the table.
    """
    datasets = {} if run.embeddings is None else {"embeddings": run.embeddings.to_xarray()}
    for name, series in series_of(run).items():
        datasets[name] = _with_windows(series, run.embeddings)
    return datasets


def _with_windows(series: EstimateSeries, table: DynamicalEmbeddingsTable | None) -> xr.Dataset:
    """The Dataset of a series; with a table, each bin is labelled with the row of its window."""
    dataset = series.to_xarray()
    if table is None:
        return dataset
    attrs = {"long_name": "row of the window in embeddings"}
    return dataset.assign_coords(trial=("time", window_of_bin(table, series), attrs))


def run_to_pynapple(run: LatentDynamics) -> dict[str, Any]:
    """IntervalSet of the table under "embeddings", and TsdFrame of each series under its name."""
    objects = {} if run.embeddings is None else {"embeddings": run.embeddings.to_pynapple()}
    for name, series in series_of(run).items():
        objects[name] = series.to_pynapple()
    return objects
