"""The times of the samples of a series, and whether they fit its values."""

from __future__ import annotations

import warnings

import numpy as np
from pynwb import TimeSeries
from pynwb.behavior import SpatialSeries

from metadyn.data.ticks import LATEST
from metadyn.errors import DataError
from ndx_metadyn.values import read_values

REMEDY = "another series; metadyn inspect lists those that can be used"
# A regular series with fewer samples than channels is stored transposed if it would last no longer
# [s]
SHORTEST_SERIES = 1.0
# Share of steps off the median one by more than half of it that a regular series has at most
MOST_UNEVEN_STEPS = 0.1


def samples(series: TimeSeries, file: str) -> tuple[np.ndarray, np.ndarray]:
    """Times and values of a series, in the order of the file.

    Values stored as (channel, sample) are turned where the times show that, with a warning; samples
    without a time are left out with another.

    Returns
    -------
    (sample,) [s] and (sample, channel) as stored, not converted to the unit.

    Raises
    ------
    DataError : times and values do not fit, or fewer than two samples have a time.
    """
    stored = read_values(_owner(series, "data").fields["data"])
    times, problem = _times(_owner(series, "timestamps"), len(stored))
    if times is None:
        raise DataError(
            "the behaviour series has no time base",
            file=file,
            item=series.name,
            found=problem,
            remedy=REMEDY,
        )
    stored = stored[:, None] if stored.ndim == 1 else stored
    if len(times) != len(stored) and len(times) == stored.shape[1]:
        stored = _turned(stored, series, file)
    if len(times) != len(stored):
        raise DataError(
            "the behaviour series has no time base: its times do not fit its samples",
            file=file,
            item=series.name,
            found=f"timestamps of shape {times.shape}, data of shape {_shape_in_file(stored)}",
            remedy=REMEDY,
        )
    if series.timestamps is None:
        times, stored = _regular(times, stored, series, file)
    return _timed(times, stored, series, file)


def _owner(series: TimeSeries, field: str) -> TimeSeries:
    """The series that holds the data or timestamps: a series may borrow another's."""
    while isinstance(series.fields.get(field), TimeSeries):
        series = series.fields[field]
    return series


def _times(owner: TimeSeries, n_samples: int) -> tuple[np.ndarray | None, str | None]:
    """Times (sample,) [s] and None, or None and what is there in place of a time base."""
    if owner.fields.get("timestamps") is not None:
        return read_values(owner.fields["timestamps"]).astype(np.float64), None
    start, rate = owner.starting_time or 0.0, owner.rate
    if rate is None or not (0 < rate < np.inf and np.isfinite(start)):
        return None, f"starting_time {owner.starting_time}, rate {rate}, no timestamps"
    return start + np.arange(n_samples) / rate, None


def _shape_in_file(stored: np.ndarray) -> tuple[int, ...]:
    """The shape of values (sample, channel) in the file, where one channel has no axis."""
    return stored.shape[:1] if stored.shape[1:] == (1,) else stored.shape


def _turned(stored: np.ndarray, series: TimeSeries, file: str) -> np.ndarray:
    """Values (channel, sample) as (sample, channel), with a warning."""
    warnings.warn(
        f"{file}: {series.name} is stored as (channel, sample), {_shape_in_file(stored)}; "
        "turned, as its times are",
        stacklevel=6,
    )
    return stored.T


def _regular(
    times: np.ndarray, stored: np.ndarray, series: TimeSeries, file: str
) -> tuple[np.ndarray, np.ndarray]:
    """Times (sample,) and values (sample, channel) of a series that has a rate.

    Nothing but their numbers distinguishes its samples from channels: one shorter than
    SHORTEST_SERIES, of more channels than samples, is refused, or turned where it is of places.

    Raises
    ------
    DataError : it may be stored as (channel, sample).
    """
    n_samples, n_channels = stored.shape
    rate = _owner(series, "timestamps").rate
    if n_samples >= n_channels or n_samples / rate >= SHORTEST_SERIES:
        return times, stored
    # A place has at most three coordinates
    if isinstance(series, SpatialSeries) and n_samples <= 3 < n_channels:
        return times[0] + np.arange(n_channels) / rate, _turned(stored, series, file)
    raise DataError(
        "the behaviour series has more channels than samples: "
        "it may be stored as (channel, sample)",
        file=file,
        item=series.name,
        found=f"data of shape {stored.shape} at {rate:g} Hz, {n_samples / rate:g} s in all",
        remedy=REMEDY,
    )


def _timed(
    times: np.ndarray, stored: np.ndarray, series: TimeSeries, file: str
) -> tuple[np.ndarray, np.ndarray]:
    """Times and values of the samples with a usable time; the others with a warning.

    Raises
    ------
    DataError : fewer than two are left.
    """
    timed = np.abs(times) <= LATEST
    if not timed.all():
        warnings.warn(
            f"{file}: {np.sum(~timed)} samples of {series.name} without a usable time are left out",
            stacklevel=5,
        )
        times, stored = times[timed], stored[timed]
    if len(times) < 2:
        raise DataError(
            "the behaviour series has no two samples with a time",
            file=file,
            item=series.name,
            found=f"{len(timed)} samples, {len(times)} with a finite time",
            remedy=REMEDY,
        )
    return times, stored


def one_clock(times: np.ndarray, *, keep_last: bool, item: str, file: str) -> np.ndarray:
    """The samples in the order of their times, one a time.

    Parts of a recording that were stored in another order are put in order where they share no
    time, with a warning.

    Parameters
    ----------
    times : (sample,) [s].
    keep_last : of several samples at one time the last is kept, not the first.
    item, file : names of series and file in messages.

    Returns
    -------
    Indices of the samples that are kept.

    Raises
    ------
    DataError : the clock jumps back into time that it has counted already.
    """
    back = np.flatnonzero(np.diff(times) < 0) + 1
    order = np.arange(len(times))
    if len(back):
        order = _parts_in_order(times, back, item, file)
        warnings.warn(
            f"{file}: {item} is stored in {len(back) + 1} parts out of order; put in order",
            stacklevel=5,
        )
    new = np.diff(times[order]) > 0
    kept = np.r_[new, True] if keep_last else np.r_[True, new]
    if not kept.all():
        which = "last" if keep_last else "first"
        warnings.warn(
            f"{file}: {np.sum(~kept)} samples of {item} share a time; the {which} is kept",
            stacklevel=5,
        )
    return order[kept]


def _parts_in_order(times: np.ndarray, back: np.ndarray, item: str, file: str) -> np.ndarray:
    """The samples with their parts, which begin at the samples `back`, in the order of time.

    Raises
    ------
    DataError : parts share time.
    """
    parts = np.split(np.arange(len(times)), back)
    parts.sort(key=lambda part: times[part[0]])
    order = np.concatenate(parts)
    if (np.diff(times[order]) < 0).any():
        where = back[0]
        raise DataError(
            "the clock of the behaviour series jumps back",
            file=file,
            item=item,
            found=f"{len(back)} jumps, the first at sample {where}, "
            f"from {times[where - 1]:.6g} s to {times[where]:.6g} s",
            remedy=REMEDY,
        )
    return order


def is_regular(times: np.ndarray) -> bool:
    """Whether nearly all steps between times (sample,) are about the median one.

    Then a clock took the samples; else they were taken when something happened.

    >>> is_regular(np.array([0.0, 1.0, 2.0, 3.1])), is_regular(np.array([0.0, 1.0, 5.0, 5.5]))
    (True, False)
    """
    steps = np.abs(np.diff(times))
    middle = np.median(steps)
    return bool((np.abs(steps - middle) > middle / 2).mean() <= MOST_UNEVEN_STEPS)
