"""Windows concatenated along time, as NWB wants them.

(trial, time, …), padded behind each window's end, becomes (sample, …); gaps between windows are not
filled.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr

from metadyn.errors import WindowError, WriteError

# nwbinspector calls timestamps regular when their differences agree to this many decimals
INSPECTOR_DECIMALS = 9


@dataclass(frozen=True)
class ConcatenatedWindows:
    """One estimate, its windows end to end.

    Parameters
    ----------
    estimate : "smoothed" or "forecast", as in the schema.
    times : (sample,) [s, session clock], bin centres, ascending.
    first, count : (window,), the samples of each window.
    latent_mean, latent_sd : (sample, latent) float32.
    rate_mean, rate_sd : (sample, unit) [Hz], float32.

    >>> times = np.array([0.025, 0.075, 0.125])
    >>> one = np.array([3])
    >>> latents = np.zeros((3, 2), np.float32)
    >>> ConcatenatedWindows("smoothed", times, one - 3, one, latents, None, None, None).rate
    20.0
    """

    estimate: str
    times: np.ndarray
    first: np.ndarray
    count: np.ndarray
    latent_mean: np.ndarray | None
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
    is_sorted = bool((np.diff(order) > 0).all())
    if not is_sorted:  # indexing copies
        dataset = dataset.isel(trial=order)
    _check_apart(*window_bounds(dataset))
    return dataset


def _check_apart(start: np.ndarray, stop: np.ndarray) -> None:
    """Raise WindowError unless there are windows (window,) [s], and none overlaps the next."""
    overlapping = int((start[1:] < stop[:-1]).sum())
    if overlapping:
        raise WindowError(
            "windows overlap, so one time would have two latent states",
            found=f"{overlapping} of {len(start)} windows begin before the one before them has "
            "ended",
            remedy="fewer `n_bins`, another `start`, or a `where` that keeps windows apart",
        )
    if not len(start):
        raise WindowError(
            "there are no windows to write", remedy="`metadyn inspect FILE` shows what there is"
        )


def window_bounds(dataset: xr.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Start and stop of each window [s], each (window,).

    Windows that touch up to rounding share their bound exactly.
    """
    width = float(dataset.attrs["bin_width"])
    start = dataset.start_time.values.astype(np.float64)
    stop = start + dataset.n_bins.values * width
    touching = np.abs(start[1:] - stop[:-1]) < 1e-6 * width
    stop[:-1][touching] = start[1:][touching]
    return start, stop


def match_windows(forecast: xr.Dataset, posterior: xr.Dataset) -> xr.Dataset:
    """A forecast with a row for each window of the posterior.

    Parameters
    ----------
    forecast, posterior : as `sort_windows` returns them; the forecast may lack windows.

    Returns
    -------
    The forecast with the posterior's windows; one without forecast has `n_bins` 0.

    Raises
    ------
    WriteError : the forecast is of windows that the posterior does not have.
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
    """How many windows of a forecast from `match_windows` have none."""
    return int((forecast.n_bins == 0).sum())


def lay_out(dataset: xr.Dataset) -> ConcatenatedWindows:
    """The samples of an estimate, windows end to end.

    Bins behind a window's end are left out, also those of forecasts.

    Parameters
    ----------
    dataset : as `sort_windows` or `match_windows` return it.

    Raises
    ------
    WriteError : within a window a value is not finite or an SD negative.
    WindowError : no bin lies in its window.
    """
    from_start = dataset.time.values  # (time,) [s], bin centres
    length = dataset.n_bins.values * float(dataset.attrs["bin_width"])  # (trial,) [s]
    inside = from_start < length[:, None]  # (trial, time)
    if not inside.any():
        raise WindowError(
            "every forecast lies behind the end of its window",
            found=f"windows of up to {dataset.n_bins.values.max()} bins, "
            f"context {dataset.attrs.get('context_bins')}",
            remedy="a shorter `context`",
        )
    count = inside.sum(1)
    times = dataset.start_time.values[:, None] + from_start
    return ConcatenatedWindows(
        estimate=dataset.attrs["estimate"],
        times=times[inside],
        first=np.cumsum(count) - count,
        count=count,
        latent_mean=_samples(dataset, "latent_mean", inside),
        latent_sd=_samples(dataset, "latent_sd", inside),
        rate_mean=_samples(dataset, "rate_mean", inside),
        rate_sd=_samples(dataset, "rate_sd", inside),
    )


def _samples(dataset: xr.Dataset, name: str, inside: np.ndarray) -> np.ndarray | None:
    """A variable (trial, time, column) at the bins `inside`, (sample, column); None if absent."""
    if name not in dataset:
        return None
    values = dataset[name].values
    # Without padding, a view in place of a copy
    values = values.reshape(-1, values.shape[-1]) if inside.all() else values[inside]
    return finite(values.astype(np.float32, copy=False), name)


def finite(values: np.ndarray, name: str) -> np.ndarray:
    """The same values, of any shape.

    Raises
    ------
    WriteError : NaN or infinity or, in an SD (by its `name`), a negative value.
    """
    wrong = ~np.isfinite(values)
    if name.endswith("_sd"):
        wrong |= values < 0
    if wrong.any():
        raise WriteError(
            f"{name} holds values that cannot be stored",
            item=name,
            found=f"{int(wrong.sum())} of {wrong.size} not finite or negative",
            remedy="train again with a smaller learning_rate; a model that diverged has no "
            "latents worth keeping",
        )
    return values
