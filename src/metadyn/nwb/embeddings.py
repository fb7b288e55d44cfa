"""The table of windows and their dynamical embeddings, with references to the samples of each
window."""

from __future__ import annotations

import numpy as np
import xarray as xr
from hdmf.common import DynamicTable, DynamicTableRegion, VectorData, VectorIndex
from pynwb import NWBFile
from pynwb.base import TimeSeriesReference, TimeSeriesReferenceVectorData

from metadyn.nwb.concatenate import ConcatenatedWindows, finite, n_without, window_bounds
from metadyn.nwb.tables import interval_tables
from ndx_metadyn import DynamicalEmbeddingsTable

# Where the forecasts start: with these two and the stored model, a rollout gives the forecast again
# (ndx_metadyn.rollout).
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
SCOPE_WORDS = {
    "session": "one embedding for the session, repeated in each row",
    "window": "one embedding for each window",
}


def embeddings_table(
    nwbfile: NWBFile,
    posterior: xr.Dataset,
    forecast: xr.Dataset | None,
    estimates: list[ConcatenatedWindows],
    series: list[list],
):
    """One row a window, made column by column: adding rows one by one takes seconds for thousands
    of windows."""
    start, stop = window_bounds(posterior)
    scope = posterior.attrs.get("embedding_scope", "window")
    references, index = _references(estimates, series)
    columns = [
        VectorData(name="start_time", description="Start of the window, in seconds.", data=start),
        VectorData(name="stop_time", description="End of the window, in seconds.", data=stop),
        references,
        index,
    ]
    for name, words in (
        ("embedding_mean", "Posterior mean"),
        ("embedding_sd", "Posterior standard deviation"),
    ):
        if name in posterior:
            values = finite(posterior[name].values.astype(np.float32), name)
            columns.append(
                VectorData(
                    name=name, description=f"{words} of the dynamical embedding.", data=values
                )
            )
    columns += _forecast_starts(forecast)
    table = interval_table(nwbfile, posterior.attrs.get("table"))
    if table is not None and (posterior.trial_row.values >= 0).all():
        columns.append(_trial_column(table, posterior.trial_row.values))
    return DynamicalEmbeddingsTable(
        description=f"Windows that the model was run on, in order of time; {SCOPE_WORDS[scope]}.",
        scope=scope,
        columns=columns,
        colnames=[column.name for column in columns if column is not index],
    )


def _forecast_starts(forecast: xr.Dataset | None) -> list[VectorData]:
    """The FORECAST_COLUMNS; none where a window has no forecast, since a column has a value in
    every row."""
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


def _references(estimates: list[ConcatenatedWindows], series: list[list]):
    """The ragged column `timeseries` and its index: for each window its samples in each series that
    has any."""
    each = [
        (windows.first.tolist(), windows.count.tolist(), one)
        for windows, many in zip(estimates, series, strict=True)
        for one in many
    ]
    rows = [
        TimeSeriesReference(first[window], count[window], one)
        for window in range(len(estimates[0].count))
        for first, count, one in each
        if count[window]
    ]
    ends = np.cumsum(
        sum(
            (windows.count > 0) * len(many) for windows, many in zip(estimates, series, strict=True)
        )
    )
    column = TimeSeriesReferenceVectorData(data=rows)
    return column, VectorIndex(name="timeseries_index", data=ends, target=column)


def _trial_column(table: DynamicTable, rows: np.ndarray) -> VectorData:
    """The rows of the intervals table as a region; as plain numbers where nwbinspector 0.7.2 would
    fail on the region.

    Its check_col_not_nan takes a region's first row for a number when all columns of the table it
    refers to are floats.
    """
    description = f"Row of `{table.name}` that the window was taken from."
    trial = region(table, "trial", rows, description)
    if np.issubdtype(np.array(trial[0]).dtype, np.floating):
        return VectorData(
            name="trial_row", description=description, data=np.asarray(rows, dtype=np.int64)
        )
    return trial


def interval_table(nwbfile: NWBFile, name: str | None) -> DynamicTable | None:
    """The interval table of that name (trials, epochs, behavior/trials, …); None for none."""
    return interval_tables(nwbfile).get(name) if name else None


def region(
    table: DynamicTable, name: str, rows: np.ndarray, description: str
) -> DynamicTableRegion:
    """Rows of a table, by position."""
    return DynamicTableRegion(
        name=name, data=np.asarray(rows, dtype=np.int64), description=description, table=table
    )
