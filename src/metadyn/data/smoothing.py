"""Gaussian smoothing of counts: for the Gaussian likelihood, the warm start and the decoding baseline."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from metadyn.records import TrialCounts


def smooth(counts: TrialCounts, sd) -> TrialCounts:
    """Counts (trial, time, unit) convolved in time with a Gaussian of `sd` seconds, as float32 spikes per bin.

    Each window by itself, over its observed bins only: the kernel is renormalised where it meets a gap or an edge.
    """
    from scipy.ndimage import gaussian_filter1d  # slow to import, and reading alone does not need it

    bins = sd / counts.bin_width
    mask = counts.observed.astype(np.float32)[..., None]
    weight = gaussian_filter1d(mask, bins, axis=1, mode="constant")
    summed = gaussian_filter1d(counts.counts * mask, bins, axis=1, mode="constant")
    smoothed = np.divide(summed, weight, out=np.zeros_like(summed), where=(mask > 0) & (weight > 0))
    return replace(counts, counts=smoothed)
