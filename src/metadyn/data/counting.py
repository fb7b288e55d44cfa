"""Spikes into the bins of windows, one pass over the spikes: a compiled loop where numba is
installed, else numpy in blocks."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import NamedTuple, cast, no_type_check

import numpy as np

from metadyn.data.ticks import TICKS_PER_SECOND, to_ticks
from metadyn.records import Windows

# Numpy counts so many spikes in a tenth of the time it takes to load numba and the compiled loop
FEW_SPIKES = 1_000_000
# spikes that numpy counts at a time, so that what it makes on the way stays small and in cache
SPIKES_AT_ONCE = 1 << 16
# window in ticks, six days, in which products of doubles still find every bin
LONGEST_WINDOW = 2**49
ALL_TICKS = np.iinfo(np.int64)


class Spikes(NamedTuple):
    """Spike times of some units [s]: those of unit u are `times[first[u]:stop[u]]`, fastest when
    ascending."""

    times: np.ndarray
    first: np.ndarray
    stop: np.ndarray


class SortedBins(NamedTuple):
    """Windows in time's order: where each starts and ends (window,) and which trial it is, and the
    width of a bin, in ticks.

    Disjoint: of two windows that share a tick the later one has it. An empty window lies before and
    behind all others.
    """

    start: np.ndarray
    end: np.ndarray
    trial: np.ndarray
    width: int


def count(spikes: Spikes, windows: Windows, observed: np.ndarray, lag: int) -> np.ndarray:
    """Counts (trial, time, unit), `lag` ticks after each spike, zero where not observed: (trial,
    time) or (trial, time, unit).

    In the smallest unsigned type that holds them. Memory goes with the result alone.
    """
    bins, shape = sorted_bins(windows), (*observed.shape[:2], len(spikes.first))
    many = (
        int((spikes.stop - spikes.first).sum()) > FEW_SPIKES
        and (bins.end - bins.start).max() <= LONGEST_WINDOW
    )
    compiled = kernel() if many else None
    counts = count_by_kernel(compiled, spikes, bins, shape, lag) if compiled else None
    counts = count_by_numpy(spikes, bins, shape, lag) if counts is None else counts
    counts[~observed] = 0
    return (
        counts
        if counts.itemsize == 1
        else counts.astype(np.min_scalar_type(counts.max()), copy=False)
    )


def sorted_bins(windows: Windows) -> SortedBins:
    """The windows as `SortedBins`."""
    order = np.argsort(windows.start, kind="stable")
    width = int(to_ticks(windows.bin_width))
    start = to_ticks(windows.start)[order]
    end = start + windows.n_bins[order] * width
    end[:-1] = np.minimum(end[:-1], start[1:])
    return SortedBins(
        start=np.r_[ALL_TICKS.min, start, ALL_TICKS.max],
        end=np.r_[ALL_TICKS.min, end, ALL_TICKS.max],
        trial=np.r_[0, order, 0],
        width=width,
    )


def count_by_numpy(spikes: Spikes, bins: SortedBins, shape: tuple, lag: int) -> np.ndarray:
    """Counts of this shape (trial, time, unit) in all bins, block after block of spikes."""
    counts = np.zeros(shape, dtype=np.uint8)
    behind = np.concatenate([[0], np.cumsum(spikes.stop - spikes.first)])
    for begin in range(0, int(behind[-1]), SPIKES_AT_ONCE):
        times, unit = _spikes_from(spikes, behind, begin)
        cells = _cells(to_ticks(times) + lag, unit, bins, shape)
        cell, more = np.unique(cells, return_counts=True)
        total = counts.reshape(-1)[cell] + more
        counts = counts.astype(
            np.promote_types(counts.dtype, np.min_scalar_type(total.max(initial=0))), copy=False
        )
        counts.reshape(-1)[cell] = total
    return counts


def _spikes_from(spikes: Spikes, behind: np.ndarray, begin: int) -> tuple[np.ndarray, np.ndarray]:
    """Times and units (spike,) of the spikes from `begin` on; `behind` (unit + 1,) counts those
    before each unit."""
    inside = np.clip(behind, begin, begin + SPIKES_AT_ONCE)
    unit = np.repeat(np.arange(len(spikes.first)), np.diff(inside))
    place = np.arange(inside[0], inside[-1])
    return spikes.times[place + (spikes.first - behind[:-1])[unit]], unit


def _cells(ticks: np.ndarray, unit: np.ndarray, bins: SortedBins, shape: tuple) -> np.ndarray:
    """Where the spikes that lie in a bin count, as places in the flat counts."""
    window = np.searchsorted(bins.start, ticks, side="right") - 1
    inside = ticks < bins.end[window]
    ticks, unit, window = ticks[inside], unit[inside], window[inside]
    time = (ticks - bins.start[window]) // bins.width
    return np.ravel_multi_index((bins.trial[window], time, unit), shape)


def count_by_kernel(
    fill: Callable[..., int], spikes: Spikes, bins: SortedBins, shape: tuple, lag: int
) -> np.ndarray | None:
    """The same by `fill` or its compiled form; None where the spikes of a unit are not in order."""
    counts = np.zeros(shape, dtype=np.uint8)
    times, at = np.ascontiguousarray(spikes.times, dtype=np.float64), spikes.first.astype(np.int64)
    stop, window = spikes.stop.astype(np.int64), 0
    while 0 <= (window := fill(counts, times, at, stop, *bins, lag, window)) < len(bins.start):
        counts = counts.astype(f"u{2 * counts.itemsize}")
    return None if window < 0 else counts


@cache
def kernel() -> Callable[..., int] | None:
    """The compiled `fill`, kept on disk for later processes where that can be written; None where
    numba is not installed."""
    try:
        from numba import njit
    except ImportError:
        return None
    try:
        return cast(Callable[..., int], njit(cache=True)(fill))
    except RuntimeError:  # no folder to keep it in
        return cast(Callable[..., int], njit(fill))


@no_type_check  # at run time: numba compiles the plain function
def fill(
    counts: np.ndarray,
    times: np.ndarray,
    at: np.ndarray,
    stop: np.ndarray,
    start: np.ndarray,
    end: np.ndarray,
    trial: np.ndarray,
    width: int,
    lag: int,
    window: int,
) -> int:
    """Add spikes to the counts, window after window from `window` on, and within a window unit
    after unit: it stays in cache.

    Returns how many windows there are; or the one where a count was full, to go on from there with
    counts of a wider type, since `at` (unit,), each unit's next spike, moves on; or -1 where a
    spike belongs to a window that is done. A bin is found from the middle of the tick: that is 0.5
    / width from the next bin at least, and up to LONGEST_WINDOW the product is
    off by less, so it never rounds across.
    """
    full, inverse = np.iinfo(counts.dtype).max, 1.0 / width
    for now in range(window, len(start)):
        begin, behind, done = start[now], end[now], end[now - 1]
        block = counts[trial[now]]
        for unit in range(len(at)):
            spike, last = at[unit], stop[unit]
            while spike < last:
                tick = np.int64(np.rint(times[spike] * TICKS_PER_SECOND)) + lag
                if tick >= behind:
                    break
                if tick >= begin:
                    time = np.int64((tick - begin + 0.5) * inverse)
                    if block[time, unit] == full:
                        at[unit] = spike
                        return now
                    block[time, unit] += 1
                elif tick < done:
                    return -1
                spike += 1
            at[unit] = spike
    return len(start)
