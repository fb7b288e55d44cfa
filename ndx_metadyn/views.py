"""The same numbers under names: xarray Datasets with axes session trial time unit latent embedding,
and pynapple objects.

Times are in seconds on the session clock. xarray and pynapple are imported when asked for.
"""

from __future__ import annotations

import numpy as np

from ndx_metadyn.values import values_of

SECONDS = {"units": "s", "long_name": "time on the session clock"}
NO_WINDOW = -1
PYNAPPLE_GAP = (
    1e-6  # pynapple keeps no touching intervals: it takes this much off the first, with a warning
)


def times_of(series) -> np.ndarray:
    """Bin centres (time,) in seconds; raises ValueError where the rate is no positive number."""
    if series.timestamps is not None:
        return values_of(series.timestamps)
    if not series.rate > 0 or not np.isfinite(series.starting_time):
        raise ValueError(
            f"'{series.name}' has no times: rate {series.rate} Hz, starting_time {series.starting_time} s"
        )
    return series.starting_time + np.arange(len(series.data)) / series.rate


def mean_of(series) -> np.ndarray:
    """The mean in its unit, (time, latent or unit)."""
    mean = values_of(series.data)
    plain = series.conversion == 1.0 and series.offset == 0.0
    return mean if plain else mean * series.conversion + series.offset


def sd_of(series) -> np.ndarray:
    """The SD in the unit of the mean, (time, latent or unit); the mean's conversion scales it, its
    offset does not."""
    sd = values_of(series.data_sd)
    return sd if series.conversion == 1.0 else sd * abs(series.conversion)


def unit_labels(series) -> np.ndarray:
    """Ids of the Units rows that the columns of a FiringRateSeries describe; column numbers where
    the file does not say.

    Raises ValueError where it says rows that the Units table has not.
    """
    if series.units is None or series.units.table is None:
        return np.arange(np.shape(series.data)[1])
    ids, rows = values_of(series.units.table.id.data), values_of(series.units.data)
    if np.any((rows < 0) | (rows >= len(ids))):
        raise ValueError(
            f"'{series.name}' is of units {rows.min()} to {rows.max()}; the table has {len(ids)} rows"
        )
    return ids[rows]


def window_of_bin(table, series) -> np.ndarray:
    """Row of the table whose window each bin of `series` belongs to, (time,); -1 where the table
    does not refer to it.

    Raises ValueError where the index of the table's references is damaged.
    """
    rows = np.full(len(times_of(series)), NO_WINDOW)
    if "timeseries" not in table.colnames:
        return rows
    index = table["timeseries"]
    references, ends = index.target.data[:], values_of(index.data).astype(np.int64)
    counts = np.diff(ends, prepend=0)
    if len(ends) != len(table) or np.any(counts < 0) or ends[-1:].sum() != len(references):
        raise ValueError(f"the index of timeseries in '{table.name}' is damaged")
    for row, (start, count, referred) in zip(
        np.repeat(np.arange(len(table)), counts), references, strict=True
    ):
        if referred is series and start >= 0:
            rows[start : start + count] = row
    return rows


def series_to_xarray(series, name: str, axis: str, labels):
    """Dataset of `name` and, where stored, `name`_sd, (time, axis), with the unit and the kind of
    estimate as attributes."""
    import xarray as xr

    attrs = {"units": series.unit, "estimate": series.estimate, "description": series.description}
    if series.horizon is not None:
        attrs["horizon_s"] = series.horizon
    variables = {name: (("time", axis), mean_of(series), attrs)}
    if series.data_sd is not None:
        sd = {"units": series.unit, "long_name": "posterior standard deviation"}
        variables[f"{name}_sd"] = (("time", axis), sd_of(series), sd)
    return xr.Dataset(
        variables, coords={"time": ("time", times_of(series), SECONDS), axis: np.asarray(labels)}
    )


def series_to_pynapple(series, labels):
    """TsdFrame of the mean, one column a label."""
    import pynapple as nap

    return nap.TsdFrame(t=times_of(series), d=mean_of(series), columns=list(labels), time_units="s")


def table_to_xarray(table):
    """Dataset of embedding_mean and embedding_sd (trial, embedding), with start_time and stop_time
    [s]; trial is the row."""
    import xarray as xr

    columns = [name for name in ("embedding_mean", "embedding_sd") if name in table.colnames]
    coords = {
        name: ("trial", values_of(table[name].data), SECONDS)
        for name in ("start_time", "stop_time")
    }
    if "trial" in table.colnames:
        coords["trial_row"] = (
            "trial",
            values_of(table["trial"].data),
            {"long_name": table["trial"].description},
        )
    variables = {
        name: (("trial", "embedding"), values_of(table[name].data), {"units": "a.u."})
        for name in columns
    }
    return xr.Dataset(
        variables, coords=coords | {"trial": np.arange(len(table))}, attrs={"scope": table.scope}
    )


def table_to_pynapple(table):
    """IntervalSet with the embeddings as metadata; of touching windows the first ends 1 microsecond
    early (pynapple's rule).

    Raises ValueError where windows overlap or are not in order: pynapple would join them and drop
    the embeddings.
    """
    import pynapple as nap

    start, stop = values_of(table["start_time"].data), values_of(table["stop_time"].data)
    if np.any(start[1:] < stop[:-1]):
        row = int(np.flatnonzero(start[1:] < stop[:-1])[0])
        raise ValueError(
            f"table '{table.name}': rows {row} and {row + 1} overlap or are out of order ({start[row]} to {stop[row]} s, then "
            f"{start[row + 1]} s); pynapple would join them and drop the embeddings. Use to_xarray()"
        )
    stop[:-1] -= np.where(start[1:] == stop[:-1], PYNAPPLE_GAP, 0.0)
    columns = [
        name for name in ("embedding_mean", "embedding_sd", "trial") if name in table.colnames
    ]
    metadata = {name: values_of(table[name].data) for name in columns}
    return nap.IntervalSet(start=start, end=stop, time_units="s", metadata=metadata)


def _series_of(run):
    return {**run.latent_series, **run.firing_rate_series}


def run_to_xarray(run) -> dict:
    """Dataset of the table under 'embeddings' and of each series under its name; `trial` of a bin
    is the row of its window."""
    tables = {} if run.embeddings is None else {"embeddings": run.embeddings.to_xarray()}
    return tables | {
        name: _labelled(series, run.embeddings) for name, series in _series_of(run).items()
    }


def _labelled(series, table):
    dataset = series.to_xarray()
    if table is None:
        return dataset
    return dataset.assign_coords(
        trial=(
            "time",
            window_of_bin(table, series),
            {"long_name": "row of the window in embeddings"},
        )
    )


def run_to_pynapple(run) -> dict:
    """IntervalSet of the table under 'embeddings' and TsdFrame of each series under its name."""
    tables = {} if run.embeddings is None else {"embeddings": run.embeddings.to_pynapple()}
    return tables | {name: series.to_pynapple() for name, series in _series_of(run).items()}
