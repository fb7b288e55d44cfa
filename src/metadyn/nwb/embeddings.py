"""The table of windows and their embeddings, with references to the samples of each window."""

from __future__ import annotations

import numpy as np
import xarray as xr
from hdmf.common import DynamicTable, DynamicTableRegion, VectorData, VectorIndex
from pynwb import NWBFile, TimeSeries
from pynwb.base import TimeSeriesReference, TimeSeriesReferenceVectorData

from metadyn.nwb.concatenate import ConcatenatedWindows, finite, n_without, window_bounds
from metadyn.nwb.tables import interval_tables
from ndx_metadyn import DynamicalEmbeddingsTable

# Columns that say where the forecasts start: name -> variable of the forecast, description. With
# these and the stored model, `ndx_metadyn.rollout` gives the forecast again
FORECAST_COLUMNS = {
    "context_embedding": (
        "embedding_mean",
        "Embedding that the forecast was made with, inferred from the context alone.",
    ),
    "context_latent": (
        "context_latent",
        "Latent state at the last bin of the context, from which the forecast starts.",
    ),
}
EMBEDDING_STATISTICS = {
    "embedding_mean": "Posterior mean",
    "embedding_sd": "Posterior standard deviation",
}
SCOPE_WORDS = {
    "session": "one embedding for the session, repeated in each row",
    "window": "one embedding for each window",
}


def embeddings_table(
    nwbfile: NWBFile,
    posterior: xr.Dataset,
    forecast: xr.Dataset | None,
    estimates: list[ConcatenatedWindows],
    series: list[list[TimeSeries]],
) -> DynamicalEmbeddingsTable:
    """The table of the windows, one a row.

    It is made column by column: adding thousands of windows row by row takes seconds.

    Parameters
    ----------
    nwbfile : the open file, in whose interval table the windows are looked up.
    posterior, forecast : as `sort_windows` and `match_windows` return them.
    estimates : the samples of the posterior and, if there is one, of the forecast.
    series : for each of the estimates the series that hold its samples.

    Raises
    ------
    WriteError : an embedding is not finite, or its SD negative.
    """
    start, stop = window_bounds(posterior)
    references, index = _sample_references(estimates, series)
    columns = [
        VectorData(name="start_time", description="Start of the window, in seconds.", data=start),
        VectorData(name="stop_time", description="End of the window, in seconds.", data=stop),
        references,
        index,
        *_embedding_columns(posterior),
        *_forecast_starts(forecast),
    ]
    table = interval_table(nwbfile, posterior.attrs.get("table"))
    if table is not None and (posterior.trial_row.values >= 0).all():
        columns.append(_trial_column(table, posterior.trial_row.values))
    scope = posterior.attrs.get("embedding_scope", "window")
    return DynamicalEmbeddingsTable(
        description=f"Windows that the model was run on, in order of time; {SCOPE_WORDS[scope]}.",
        scope=scope,
        columns=columns,
        colnames=[column.name for column in columns if column is not index],
    )


def _embedding_columns(posterior: xr.Dataset) -> list[VectorData]:
    """Mean and SD of the embeddings (window, embedding), as far as the posterior has them."""
    columns = []
    for name, statistic in EMBEDDING_STATISTICS.items():
        if name in posterior:
            values = finite(posterior[name].values.astype(np.float32), name)
            description = f"{statistic} of the dynamical embedding."
            columns.append(VectorData(name=name, description=description, data=values))
    return columns


def _forecast_starts(forecast: xr.Dataset | None) -> list[VectorData]:
    """The FORECAST_COLUMNS, (window, embedding) and (window, latent).

    None where a window has no forecast, since a column has a value in every row.
    """
    if forecast is None or n_without(forecast):
        return []
    return [
        VectorData(
            name=name,
            description=words,
            data=finite(forecast[variable].values.astype(np.float32), variable),
        )
        for name, (variable, words) in FORECAST_COLUMNS.items()
        if variable in forecast
    ]


def _sample_references(
    estimates: list[ConcatenatedWindows], series: list[list[TimeSeries]]
) -> tuple[TimeSeriesReferenceVectorData, VectorIndex]:
    """The ragged column `timeseries` and its index, as arguments of `embeddings_table`.

    A window refers to its samples in each series that has any.
    """
    samples_in = [
        (windows.first.tolist(), windows.count.tolist(), one)
        for windows, holding in zip(estimates, series, strict=True)
        for one in holding
    ]
    n_windows = len(estimates[0].count)
    rows = [
        TimeSeriesReference(first[window], count[window], one)
        for window in range(n_windows)
        for first, count, one in samples_in
        if count[window]
    ]
    n_references = np.zeros(n_windows, int)  # of each window
    for windows, holding in zip(estimates, series, strict=True):
        n_references += (windows.count > 0) * len(holding)
    column = TimeSeriesReferenceVectorData(data=rows)
    ends = np.cumsum(n_references)
    return column, VectorIndex(name="timeseries_index", data=ends, target=column)


def _trial_column(table: DynamicTable, rows: np.ndarray) -> VectorData:
    """The rows (window,) of the interval table that the windows were taken from.

    A region or, where all columns of that table are floats, plain numbers named `trial_row`: then
    nwbinspector 0.7.2 would fail on the region, whose first row its check_col_not_nan takes for a
    number.
    """
    description = f"Row of `{table.name}` that the window was taken from."
    trial = region(table, "trial", rows, description)
    if np.issubdtype(np.array(trial[0]).dtype, np.floating):
        return VectorData(
            name="trial_row", description=description, data=np.asarray(rows, dtype=np.int64)
        )
    return trial


def interval_table(nwbfile: NWBFile, name: str | None) -> DynamicTable | None:
    """The interval table of a name (trials, epochs, behavior/trials, …).

    None without a name, or where the file has no such table.
    """
    return interval_tables(nwbfile).get(name) if name else None


def region(
    table: DynamicTable, name: str, rows: np.ndarray, description: str
) -> DynamicTableRegion:
    """Rows of a table, by position, as a column `name` of another object."""
    return DynamicTableRegion(
        name=name, data=np.asarray(rows, dtype=np.int64), description=description, table=table
    )
