"""Gaussian smoothing of counts: for the Gaussian likelihood, the warm start and the decoding
baseline."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from metadyn.records import TrialCounts

# entries (trial, time, unit) that are worked on at once: what is made on the way stays small
# beside the counts
ENTRIES_AT_ONCE = 2**20


def slices_of_trials(values: np.ndarray) -> Iterator[slice]:
    """Some trials at a time of values (trial, time, unit)."""
    size = max(1, ENTRIES_AT_ONCE // max(1, values[0].size))
    return (slice(first, first + size) for first in range(0, len(values), size))


def smooth(counts: TrialCounts, sd: float | int) -> TrialCounts:
    """Counts (trial, time, unit) convolved in time with a Gaussian of `sd` seconds, as float32
    spikes per bin.

    Each window by itself, over its observed entries only: the kernel is renormalised where it meets
    a gap or an edge.
    """
    smoothed, entries = np.zeros(counts.counts.shape, np.float32), counts.observed_entries
    for trials in slices_of_trials(smoothed):
        _smooth_into(
            smoothed[trials], counts.counts[trials], entries[trials], sd / counts.bin_width
        )
    return replace(counts, counts=smoothed)


def _smooth_into(out: np.ndarray, counts: np.ndarray, observed: np.ndarray, bins: float) -> None:
    from scipy.ndimage import (
        gaussian_filter1d,
    )  # slow to import, and reading alone does not need it

    mask = observed.astype(np.float32)
    weight = gaussian_filter1d(mask, bins, axis=1, mode="constant")
    summed = gaussian_filter1d(counts * mask, bins, axis=1, mode="constant")
    np.divide(summed, weight, out=out, where=(mask > 0) & (weight > 0), casting="same_kind")
