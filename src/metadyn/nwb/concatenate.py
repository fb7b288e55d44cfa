"""Windows laid end to end along time, as NWB wants them: (trial, time, …) padded becomes (sample,
…) without gaps filled."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr

from metadyn.errors import WindowError, WriteError

INSPECTOR_DECIMALS = (
    9  # nwbinspector calls timestamps regular when their differences agree to this many decimals
)


@dataclass(frozen=True)
class ConcatenatedWindows:
    """One estimate, windows end to end.

    times (sample,) [s, session clock]: bin centres, ascending; first, count (window,): the samples
    of each window; latent_mean, latent_sd (sample, latent); rate_mean, rate_sd (sample, unit) [Hz],
    float32. `estimate` as in the schema.
    """

    estimate: str
    times: np.ndarray
    first: np.ndarray
    count: np.ndarray
    latent_mean: np.ndarray
    latent_sd: np.ndarray | None
    rate_mean: np.ndarray | None
    rate_sd: np.ndarray | None

    @property
    def rate(self) -> float | None:
        """Samples per second where the samples are evenly spaced, else None."""
        steps = np.diff(self.times)
        if len(steps) < 2 or np.ptp(np.round(steps, INSPECTOR_DECIMALS)) > 0:
            return None
        rate = len(steps) / (self.times[-1] - self.times[0])
        return float(round(rate)) if abs(rate - round(rate)) < 1e-6 * rate else float(rate)


def sort_windows(dataset: xr.Dataset) -> xr.Dataset:
    """The windows sorted by start time.

    Raises
    ------
    WindowError : windows overlap (touching is fine), or there are none.
    """
    order = np.argsort(dataset.start_time.values, kind="stable")
    if (np.diff(order) < 0).any():  # to index is to copy
        dataset = dataset.isel(trial=order)
    start, stop = window_bounds(dataset)
    overlapping = int((start[1:] < stop[:-1]).sum())
    if overlapping:
        raise WindowError(
            "windows overlap, so one time would have two latent states",
            found=f"{overlapping} of {len(start)} windows begin before the one before them has ended",
            remedy="fewer --n-bins, another --start, or a --where that keeps windows apart",
        )
    if not len(start):
        raise WindowError(
            "there are no windows to write", remedy="`metadyn inspect FILE` shows what there is"
        )
    return dataset


def window_bounds(dataset: xr.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Start and stop of each window [s]; windows that touch up to rounding share their bound
    exactly."""
    width = float(dataset.attrs["bin_width"])
    start = dataset.start_time.values.astype(np.float64)
    stop = start + dataset.n_bins.values * width
    touching = np.abs(start[1:] - stop[:-1]) < 1e-6 * width
    stop[:-1][touching] = start[1:][touching]
    return start, stop


def match_windows(forecast: xr.Dataset, posterior: xr.Dataset) -> xr.Dataset:
    """A forecast with a row for each window of the posterior, both as `sort_windows` returns them;
    a window without forecast has no bins.

    Raises
    ------
    WriteError : the forecast is of windows that the posterior has not.
    """
    own, every = forecast.start_time.values, posterior.start_time.values
    rows = np.searchsorted(every, own).clip(max=len(every) - 1)
    if not np.array_equal(every[rows], own):
        raise WriteError(
            "the forecast is of other windows than the posterior",
            found=f"{len(own)} and {len(every)} windows",
            remedy="forecast the same TrialCounts that were inferred",
        )
    full = forecast.assign_coords(trial=rows).reindex(
        trial=np.arange(len(every)), fill_value={"n_bins": 0}
    )
    return full.assign_coords(start_time=("trial", every)).assign_attrs(estimate="forecast")


def n_without(forecast: xr.Dataset) -> int:
    """How many windows of a forecast that has a row for each window of the posterior have none."""
    return int((forecast.n_bins == 0).sum())


def lay_out(dataset: xr.Dataset) -> ConcatenatedWindows:
    """The samples of an estimate sorted by `sort_windows`; bins behind a window's end are left
    out, also forecasts of them.

    Raises
    ------
    WriteError : a value is not finite or an SD negative within a window. WindowError : no bin lies
    in its window.
    """
    inside = dataset.time.values < dataset.n_bins.values[:, None] * float(
        dataset.attrs["bin_width"]
    )  # times are bin centres
    if not inside.any():
        raise WindowError(
            "every forecast lies behind the end of its window",
            found=f"windows of up to {dataset.n_bins.values.max()} bins, context {dataset.attrs.get('context_bins')}",
            remedy="a shorter --context",
        )
    times = (dataset.start_time.values[:, None] + dataset.time.values[None, :])[inside]
    count = inside.sum(1)
    values = {
        name: _samples(dataset, name, inside)
        for name in ("latent_mean", "latent_sd", "rate_mean", "rate_sd")
    }
    return ConcatenatedWindows(
        estimate=dataset.attrs["estimate"],
        times=times,
        first=np.cumsum(count) - count,
        count=count,
        **values,
    )


def _samples(dataset: xr.Dataset, name: str, inside: np.ndarray) -> np.ndarray | None:
    if name not in dataset:
        return None
    values = dataset[name].values
    values = values.reshape(-1, values.shape[-1]) if inside.all() else values[inside]
    return finite(values.astype(np.float32, copy=False), name)


def finite(values: np.ndarray, name: str) -> np.ndarray:
    """The same values; refuses NaN, infinity and, for an SD, what is negative."""
    wrong = ~np.isfinite(values)
    if name.endswith("_sd"):
        wrong |= values < 0
    if wrong.any():
        raise WriteError(
            f"{name} holds values that cannot be stored",
            item=name,
            found=f"{int(wrong.sum())} of {wrong.size} not finite or negative",
            remedy="train again with a smaller learning_rate; a model that diverged has no latents worth keeping",
        )
    return values
