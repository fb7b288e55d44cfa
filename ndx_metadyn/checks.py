"""Checks for nwbinspector: `nwbinspector FILE --modules ndx_metadyn.checks`, or import this module
before inspecting.

One rule, one check. Needs nwbinspector (extra `dandi`); nothing else in this package imports it.
"""

from __future__ import annotations

import numpy as np
from nwbinspector import Importance, InspectorMessage, register_check

from ndx_metadyn.containers import (
    SCOPES,
    DynamicalEmbeddingsTable,
    EstimateSeries,
    LatentDynamics,
    LatentDynamicsModel,
)
from ndx_metadyn.rollout import ARCHITECTURE
from ndx_metadyn.values import values_of
from ndx_metadyn.views import NO_WINDOW, times_of, window_of_bin
from ndx_metadyn.weights import WeightsError


def _count_bad_sd(sd) -> int:
    sd = values_of(sd)
    return int(np.count_nonzero(~(np.isfinite(sd) & (sd >= 0))))


@register_check(importance=Importance.CRITICAL, neurodata_type=EstimateSeries)
def check_series_sd_is_finite_and_not_negative(series: EstimateSeries):
    """A posterior standard deviation is a finite number >= 0."""
    n_bad = 0 if series.data_sd is None else _count_bad_sd(series.data_sd)
    return (
        InspectorMessage(f"data_sd has {n_bad} values that are negative or not finite.")
        if n_bad
        else None
    )


@register_check(importance=Importance.CRITICAL, neurodata_type=DynamicalEmbeddingsTable)
def check_embedding_sd_is_finite_and_not_negative(table: DynamicalEmbeddingsTable):
    """A posterior standard deviation is a finite number >= 0."""
    n_bad = _count_bad_sd(table["embedding_sd"].data) if "embedding_sd" in table.colnames else 0
    return (
        InspectorMessage(f"embedding_sd has {n_bad} values that are negative or not finite.")
        if n_bad
        else None
    )


@register_check(importance=Importance.CRITICAL, neurodata_type=DynamicalEmbeddingsTable)
def check_bin_centers_lie_inside_their_windows(table: DynamicalEmbeddingsTable):
    """Else restricting a series to a window loses bins, or counts those of a neighbour."""
    if "timeseries" not in table.colnames:
        return None
    outside = [_rows_with_bins_outside(table, series) for series in _series_referred_to(table)]
    rows = np.unique(np.concatenate([np.empty(0, int), *outside]))
    return (
        InspectorMessage(
            f"bins lie outside their window in {len(rows)} rows, first in row {rows[0]}."
        )
        if len(rows)
        else None
    )


def _series_referred_to(table) -> list:
    """Series whose bins belong inside the windows: forecasts may go beyond."""
    referred = {id(series): series for _, _, series in table["timeseries"].target.data[:]}
    return [
        series for series in referred.values() if getattr(series, "estimate", None) != "forecast"
    ]


def _rows_with_bins_outside(table, series) -> np.ndarray:
    rows, times = window_of_bin(table, series), times_of(series)
    start, stop = values_of(table["start_time"].data), values_of(table["stop_time"].data)
    outside = (rows != NO_WINDOW) & ((times <= start[rows]) | (times >= stop[rows]))
    return np.unique(rows[outside])


@register_check(importance=Importance.CRITICAL, neurodata_type=DynamicalEmbeddingsTable)
def check_scope_is_consistent(table: DynamicalEmbeddingsTable):
    """With scope 'session' every row holds the same embedding."""
    if table.scope not in SCOPES:
        return InspectorMessage(f"scope is '{table.scope}', not one of {', '.join(SCOPES)}.")
    columns = [
        name
        for name in ("embedding_mean", "embedding_sd")
        if name in table.colnames and table.scope == "session"
    ]
    differing = [name for name in columns if np.ptp(values_of(table[name].data), axis=0).any()]
    return (
        InspectorMessage(f"scope is 'session', but {' and '.join(differing)} differ between rows.")
        if differing
        else None
    )


@register_check(importance=Importance.CRITICAL, neurodata_type=LatentDynamicsModel)
def check_weights_match_digest(model: LatentDynamicsModel):
    """The stored bytes are those the digest was taken of."""
    if model.weights is None or model.digest is None:
        return None
    try:
        model.verify()
    except WeightsError as error:
        return InspectorMessage(str(error))
    return None


@register_check(importance=Importance.CRITICAL, neurodata_type=LatentDynamics)
def check_units_are_those_of_the_model_in_its_order(run: LatentDynamics):
    """Column j of the input and of the rates is unit j of the model's session; its config says
    which rows these are."""
    try:
        expected = _unit_rows_in_model(run)
    except (WeightsError, LookupError, TypeError) as error:
        return InspectorMessage(
            f"the model's config does not say which units it knows: {type(error).__name__}: {error}"
        )
    regions = {"units": run.units} | {
        name: series.units for name, series in run.firing_rate_series.items()
    }
    other = [
        name
        for name, region in regions.items()
        if region is not None and values_of(region.data).tolist() != expected
    ]
    if expected is None or not other:
        return None
    return InspectorMessage(
        f"other units than the model's, or in another order: {', '.join(other)}."
    )


def _unit_rows_in_model(run: LatentDynamics) -> list[int] | None:
    """Rows of /units of the run's session in the config of a MetaSSM; None without one, or where it
    knows no such session."""
    if run.model is None or run.model.architecture != ARCHITECTURE or run.model.config is None:
        return None
    rows = {session["key"]: session["unit_rows"] for session in run.model.settings()["sessions"]}
    return rows.get(run.input_key)
