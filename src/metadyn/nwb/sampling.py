"""When the samples of a series were taken: its times, and whether they fit its values."""

from __future__ import annotations

import warnings

import numpy as np
from pynwb import TimeSeries
from pynwb.behavior import SpatialSeries

from metadyn.data.ticks import LATEST
from metadyn.errors import DataError
from ndx_metadyn.values import read_values

REMEDY = "another series; metadyn inspect lists those that can be used"
# [s] a regular series with fewer samples than channels is stored transposed if it would last no
# longer
SHORTEST_SERIES = 1.0
# Share of steps off the median one by more than half of it that a regular series has at most
MOST_UNEVEN_STEPS = 0.1


def samples(series: TimeSeries, file) -> tuple[np.ndarray, np.ndarray]:
    """Times (sample,) [s] and what is stored at each (sample, channel), in the order of the file.

    What is stored as (channel, sample) is turned where the times say so, with a warning; samples
    without a time are left out with another. Raises DataError, with both shapes, where times and
    values do not fit.
    """
    stored = read_values(_owner(series, "data").fields["data"])
    times, why = _times(_owner(series, "timestamps"), len(stored))
    if times is None:
        raise DataError(
            "the behaviour series has no time base",
            file=file,
            item=series.name,
            found=why,
            remedy=REMEDY,
        )
    stored = stored[:, None] if stored.ndim == 1 else stored
    if len(times) != len(stored) and len(times) == stored.shape[1]:
        stored = _turned(stored, series, file)
    if len(times) != len(stored):
        found = f"timestamps of shape {times.shape}, data of shape {_shape_in_file(stored)}"
        problem = "the behaviour series has no time base: its times do not fit its samples"
        raise DataError(problem, file=file, item=series.name, found=found, remedy=REMEDY)
    if series.timestamps is None:
        times, stored = _regular(times, stored, series, file)
    return _timed(times, stored, series, file)


def _owner(series: TimeSeries, field: str) -> TimeSeries:
    """The series whose data or timestamps these are: a series may borrow another's."""
    while isinstance(series.fields.get(field), TimeSeries):
        series = series.fields[field]
    return series


def _times(owner: TimeSeries, n_samples: int):
    """Times of the samples and None, or None and what is there in place of a time base."""
    if owner.fields.get("timestamps") is not None:
        return read_values(owner.fields["timestamps"]).astype(np.float64), None
    start, rate = owner.starting_time or 0.0, owner.rate
    if rate is None or not (0 < rate < np.inf and np.isfinite(start)):
        return None, f"starting_time {owner.starting_time}, rate {rate}, no timestamps"
    return start + np.arange(n_samples) / rate, None


def _shape_in_file(stored: np.ndarray) -> tuple[int, ...]:
    return stored.shape[:1] if stored.shape[1:] == (1,) else stored.shape


def _turned(stored: np.ndarray, series: TimeSeries, file) -> np.ndarray:
    warnings.warn(
        f"{file}: {series.name} is stored as (channel, sample), {_shape_in_file(stored)}; "
        "turned, as its times are",
        stacklevel=6,
    )
    return stored.T


def _regular(times: np.ndarray, stored: np.ndarray, series: TimeSeries, file):
    """Times and values of a series that has a rate and no times of its own, by which to tell
    samples from channels."""
    n_samples, n_channels = stored.shape
    rate = _owner(series, "timestamps").rate
    if n_samples >= n_channels or n_samples / rate >= SHORTEST_SERIES:
        return times, stored
    if (
        isinstance(series, SpatialSeries) and n_samples <= 3 < n_channels
    ):  # a place has at most three coordinates
        return times[0] + np.arange(n_channels) / rate, _turned(stored, series, file)
    found = f"data of shape {stored.shape} at {rate:g} Hz, {n_samples / rate:g} s in all"
    problem = (
        "the behaviour series has more channels than samples: it may be stored as (channel, sample)"
    )
    raise DataError(problem, file=file, item=series.name, found=found, remedy=REMEDY)


def _timed(times: np.ndarray, stored: np.ndarray, series: TimeSeries, file):
    timed = np.abs(times) <= LATEST
    if not timed.all():
        warnings.warn(
            f"{file}: {np.sum(~timed)} samples of {series.name} without a usable time are left out",
            stacklevel=5,
        )
        times, stored = times[timed], stored[timed]
    if len(times) < 2:
        found = f"{len(timed)} samples, {len(times)} with a finite time"
        problem = "the behaviour series has no two samples with a time"
        raise DataError(problem, file=file, item=series.name, found=found, remedy=REMEDY)
    return times, stored


def one_clock(times: np.ndarray, *, keep_last: bool, item: str, file) -> np.ndarray:
    """The samples in the order of their times, one a time: the first of several at one time, or the
    last.

    Parts of a recording that were stored in another order are put in order where they share no
    time, with a warning. Raises DataError where the clock jumps back into what it has counted
    already.
    """
    back = np.flatnonzero(np.diff(times) < 0) + 1
    order = np.arange(len(times))
    if len(back):
        parts = np.split(order, back)
        parts.sort(key=lambda part: times[part[0]])
        order = np.concatenate(parts)
        if (np.diff(times[order]) < 0).any():
            where = back[0]
            found = (
                f"{len(back)} jumps, the first at sample {where}, from {times[where - 1]:.6g} s "
                f"to {times[where]:.6g} s"
            )
            raise DataError(
                "the clock of the behaviour series jumps back",
                file=file,
                item=item,
                found=found,
                remedy=REMEDY,
            )
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


def is_regular(times: np.ndarray) -> bool:
    """Whether nearly all steps between samples are about the median one: a clock took them, not
    what they show."""
    steps = np.abs(np.diff(times))
    middle = np.median(steps)
    return bool((np.abs(steps - middle) > middle / 2).mean() <= MOST_UNEVEN_STEPS)
