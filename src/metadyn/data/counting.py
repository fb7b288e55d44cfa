"""Spikes into the bins of windows, one pass over the spikes: a compiled loop where numba is installed, else numpy in blocks."""

from __future__ import annotations

from functools import cache, partial
from typing import NamedTuple, no_type_check

import numpy as np

from metadyn.data.ticks import TICKS_PER_SECOND, to_ticks
from metadyn.records import Windows

FEW = 200_000  # numpy counts so many spikes in less time than it takes to import numba
BLOCK = 1 << 16  # spikes that numpy counts at a time, so that what it makes on the way stays small and in cache
EVER = np.iinfo(np.int64)


class Spikes(NamedTuple):
    """Spike times of some units [s]: those of unit u are `times[first[u]:stop[u]]`, in any order, fastest when ascending."""

    times: np.ndarray
    first: np.ndarray
    stop: np.ndarray


class Bins(NamedTuple):
    """Windows in time's order: where each starts and ends (window,) and which trial it is, and the width of a bin, in ticks.

    Disjoint: of two windows that share a tick the later one has it. An empty window lies before and behind all others.
    """

    start: np.ndarray
    end: np.ndarray
    trial: np.ndarray
    width: int


def count(spikes: Spikes, windows: Windows, observed: np.ndarray, lag: int) -> np.ndarray:
    """Counts (trial, time, unit) in the observed bins (trial, time), `lag` ticks after each spike.

    In the smallest unsigned type that holds them. Memory goes with the result alone.
    """
    compiled = int((spikes.stop - spikes.first).sum()) > FEW and kernel()
    road = partial(by_kernel, compiled) if compiled else by_numpy
    return road(spikes, in_order(windows), observed, lag)


def in_order(windows: Windows) -> Bins:
    """The windows as `Bins`."""
    order = np.argsort(windows.start, kind="stable")
    width = int(to_ticks(windows.bin_width))
    start = to_ticks(windows.start)[order]
    end = start + windows.n_bins[order] * width
    end[:-1] = np.minimum(end[:-1], start[1:])
    around = [np.r_[EVER.min, bounds, EVER.max] for bounds in (start, end)]
    return Bins(*around, np.r_[0, order, 0], width)


def by_numpy(spikes: Spikes, bins: Bins, observed: np.ndarray, lag: int) -> np.ndarray:
    """`count`, block after block of spikes."""
    counts = np.zeros((*observed.shape, len(spikes.first)), dtype=np.uint8)
    behind = np.concatenate([[0], np.cumsum(spikes.stop - spikes.first)])
    for begin in range(0, int(behind[-1]), BLOCK):
        times, unit = _block(spikes, behind, begin)
        cells = _cells(to_ticks(times) + lag, unit, bins, observed, counts.shape)
        cell, more = np.unique(cells, return_counts=True)
        total = counts.reshape(-1)[cell] + more
        counts = counts.astype(np.promote_types(counts.dtype, np.min_scalar_type(total.max(initial=0))), copy=False)
        counts.reshape(-1)[cell] = total
    return counts


def _block(spikes: Spikes, behind: np.ndarray, begin: int):
    """Times and units (spike,) of the spikes from `begin` on; `behind` (unit + 1,) counts those before each unit."""
    inside = np.clip(behind, begin, begin + BLOCK)
    unit = np.repeat(np.arange(len(spikes.first)), np.diff(inside))
    place = np.arange(inside[0], inside[-1])
    return spikes.times[place + (spikes.first - behind[:-1])[unit]], unit


def _cells(ticks: np.ndarray, unit: np.ndarray, bins: Bins, observed: np.ndarray, shape) -> np.ndarray:
    """Where the spikes that lie in an observed bin count, as places in the flat counts."""
    window = np.searchsorted(bins.start, ticks, side="right") - 1
    inside = ticks < bins.end[window]
    ticks, unit, window = ticks[inside], unit[inside], window[inside]
    trial, time = bins.trial[window], (ticks - bins.start[window]) // bins.width
    seen = observed[trial, time]
    return np.ravel_multi_index((trial[seen], time[seen], unit[seen]), shape)


def by_kernel(fill, spikes: Spikes, bins: Bins, observed: np.ndarray, lag: int) -> np.ndarray:
    """`count`, by `fill` or its compiled form."""
    counts = np.zeros((*observed.shape, len(spikes.first)), dtype=np.uint8)
    times, at = np.ascontiguousarray(spikes.times, dtype=np.float64), spikes.first.astype(np.int64)
    stop, window = spikes.stop.astype(np.int64), 0
    while (window := fill(counts, observed, times, at, stop, *bins, lag, window)) < len(bins.start):
        counts = counts.astype(f"u{2 * counts.itemsize}")
    return counts


@cache
def kernel():
    """The compiled `fill`, kept on disk for later processes where that can be written; None where numba is not installed."""
    try:
        from numba import njit
    except ImportError:
        return None
    try:
        return njit(cache=True)(fill)
    except RuntimeError:  # no folder to keep it in
        return njit(fill)


@no_type_check  # numba compiles the plain function
def fill(counts, observed, times, at, stop, start, end, trial, width, lag, window):
    """Add spikes to the counts, window after window from `window` on; return the window where a count was full, or how many.

    Within a window unit after unit, so that the counts of the window stay in cache. `at` (unit,) is each unit's next
    spike and moves on: with counts of a wider type the same call goes on where it stopped.
    """
    full = np.iinfo(counts.dtype).max
    for now in range(window, len(start)):
        for unit in range(len(at)):
            while at[unit] < stop[unit]:
                tick = np.int64(np.rint(times[at[unit]] * TICKS_PER_SECOND)) + lag
                if tick >= end[now]:
                    break
                there = now
                if tick < start[now]:  # between two windows, or earlier than a spike before it
                    there = now - 1 if tick >= end[now - 1] else np.searchsorted(start, tick, side="right") - 1
                if tick < end[there]:
                    row, time = trial[there], (tick - start[there]) // width
                    if observed[row, time]:
                        if counts[row, time, unit] == full:
                            return now
                        counts[row, time, unit] += 1
                at[unit] += 1
    return len(start)
