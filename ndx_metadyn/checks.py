"""Checks for nwbinspector: `nwbinspector FILE --modules ndx_metadyn.checks`.

In Python, import this module before inspecting. One rule, one check; each returns a message, or
None where its rule holds. Needs nwbinspector (extra `dandi`); nothing else here imports it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from hdmf.common import DynamicTableRegion
from nwbinspector import Importance, InspectorMessage, register_check

from ndx_metadyn import DynamicalEmbeddingsTable, LatentDynamics, LatentDynamicsModel
from ndx_metadyn.containers.series import EstimateSeries
from ndx_metadyn.containers.tables import SCOPES
from ndx_metadyn.rollout import ARCHITECTURE
from ndx_metadyn.values import read_values
from ndx_metadyn.views import EMBEDDING_COLUMNS, NO_WINDOW, bin_times, series_of, window_of_bin
from ndx_metadyn.weights import WeightsError


def _message_of_sd(name: str, sd: Any) -> InspectorMessage | None:
    """A message where values of this SD (of any shape) are negative or not finite."""
    values = read_values(sd)
    n_bad = int(np.count_nonzero(~(np.isfinite(values) & (values >= 0))))
    if not n_bad:
        return None
    return InspectorMessage(f"{name} has {n_bad} values that are negative or not finite.")


@register_check(importance=Importance.CRITICAL, neurodata_type=EstimateSeries)
def check_series_sd_is_finite_and_not_negative(
    series: EstimateSeries,
) -> InspectorMessage | None:
    """A posterior standard deviation is a finite number >= 0."""
    return None if series.data_sd is None else _message_of_sd("data_sd", series.data_sd)


@register_check(importance=Importance.CRITICAL, neurodata_type=DynamicalEmbeddingsTable)
def check_embedding_sd_is_finite_and_not_negative(
    table: DynamicalEmbeddingsTable,
) -> InspectorMessage | None:
    """A posterior standard deviation is a finite number >= 0."""
    if "embedding_sd" not in table.colnames:
        return None
    return _message_of_sd("embedding_sd", table["embedding_sd"].data)


@register_check(importance=Importance.CRITICAL, neurodata_type=DynamicalEmbeddingsTable)
def check_bin_centers_lie_inside_their_windows(
    table: DynamicalEmbeddingsTable,
) -> InspectorMessage | None:
    """A bin belongs to the window that it lies in.

    Else restricting a series to a window loses bins, or counts those of a neighbour.
    """
    if "timeseries" not in table.colnames:
        return None
    outside = [_rows_with_bins_outside(table, series) for series in _series_referred_to(table)]
    rows = np.unique(np.concatenate([np.empty(0, int), *outside]))
    if not len(rows):
        return None
    return InspectorMessage(
        f"bins lie outside their window in {len(rows)} rows, first in row {rows[0]}."
    )


def _series_referred_to(table: DynamicalEmbeddingsTable) -> list[EstimateSeries]:
    """Series whose bins belong inside the windows: forecasts may go beyond."""
    referred = {id(series): series for _, _, series in table["timeseries"].target.data[:]}
    return [
        series for series in referred.values() if getattr(series, "estimate", None) != "forecast"
    ]


def _rows_with_bins_outside(table: DynamicalEmbeddingsTable, series: EstimateSeries) -> np.ndarray:
    """Rows of the table, ascending, of which a bin centre is not within (start, stop) [s]."""
    rows = window_of_bin(table, series)
    times = bin_times(series)
    start = read_values(table["start_time"].data)
    stop = read_values(table["stop_time"].data)
    outside = (rows != NO_WINDOW) & ((times <= start[rows]) | (times >= stop[rows]))
    return np.unique(rows[outside])


@register_check(importance=Importance.CRITICAL, neurodata_type=DynamicalEmbeddingsTable)
def check_scope_is_consistent(table: DynamicalEmbeddingsTable) -> InspectorMessage | None:
    """With scope 'session' every row holds the same embedding."""
    if table.scope not in SCOPES:
        return InspectorMessage(f"scope is '{table.scope}', not one of {', '.join(SCOPES)}.")
    if table.scope != "session":
        return None
    columns = [name for name in EMBEDDING_COLUMNS if name in table.colnames]
    differing = [name for name in columns if np.ptp(read_values(table[name].data), axis=0).any()]
    if not differing:
        return None
    return InspectorMessage(
        f"scope is 'session', but {' and '.join(differing)} differ between rows."
    )


@register_check(importance=Importance.CRITICAL, neurodata_type=LatentDynamicsModel)
def check_weights_match_digest(model: LatentDynamicsModel) -> InspectorMessage | None:
    """The stored bytes are those the digest was taken of."""
    if model.weights is None or model.digest is None:
        return None
    try:
        model.verify()
    except WeightsError as error:
        return InspectorMessage(str(error))
    return None


@register_check(importance=Importance.CRITICAL, neurodata_type=LatentDynamics)
def check_units_are_those_of_the_model_in_its_order(
    run: LatentDynamics,
) -> InspectorMessage | None:
    """Column j of the input and of the rates is unit j of the model's session.

    The model's config says which rows of the Units table these are.
    """
    try:
        expected = _unit_rows_in_model(run)
    except (WeightsError, LookupError, TypeError) as error:
        return InspectorMessage(
            f"the model's config does not say which units it knows: {type(error).__name__}: {error}"
        )
    if expected is None:
        return None
    regions = _unit_regions(run)
    other = [name for name, rows in regions.items() if read_values(rows.data).tolist() != expected]
    if not other:
        return None
    return InspectorMessage(
        f"other units than the model's, or in another order: {', '.join(other)}."
    )


def _unit_regions(run: LatentDynamics) -> dict[str, DynamicTableRegion]:
    """The rows of the Units table that the input ("units") and each series of a run name."""
    regions = {"units": run.units}
    for name, series in series_of(run).items():
        regions[name] = getattr(series, "units", None)
    return {name: region for name, region in regions.items() if region is not None}


def _unit_rows_in_model(run: LatentDynamics) -> list[int] | None:
    """Rows of /units of the run's session, as the config of a MetaSSM lists them.

    None without such a model, or where it knows no such session.
    """
    if run.model is None or run.model.architecture != ARCHITECTURE or run.model.config is None:
        return None
    rows = {session["key"]: session["unit_rows"] for session in run.model.settings()["sessions"]}
    return rows.get(run.input_key)
