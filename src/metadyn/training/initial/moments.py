"""Mean, covariance and smoothing width of one session's counts, in which entries may be missing.

ȳ_i = Σ_b o_bi y_bi / Σ_b o_bi and S_ij = Σ_b o_bi o_bj d_bi d_bj / (Σ_b o_bi o_bj − 1), with
d = y − ȳ: y_bi the count of unit i in bin b, o_bi one where it was observed and zero elsewhere.
Pairwise-complete moments, as in Little and Rubin, Statistical Analysis with Missing Data, ch. 3.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Float, Num
from scipy.ndimage import gaussian_filter1d

from metadyn.data.smoothing import slices_of_trials, smooth
from metadyn.records import TrialCounts

SPIKES_PER_SD = 0.25  # spikes that the mean unit should fire within one SD of the smoothing

Values = Num[np.ndarray, "trial time unit"]
Entries = Bool[np.ndarray, "trial time #unit"]  # last axis 1: all units are observed alike
PerUnit = Float[np.ndarray, " unit"]


def smoothed(counts: TrialCounts, sd_bins: float) -> Float[np.ndarray, "trial time unit"]:
    """Counts, smoothed along time with a Gaussian whose SD is in bins."""
    return smooth(counts, sd_bins * counts.bin_width).counts


def deviations(
    values: Values, entries: Entries, mean: PerUnit | float = 0.0
) -> Iterator[tuple[Float[np.ndarray, "bin unit"], Bool[np.ndarray, "bin #unit"]]]:
    """values − mean of the observed bins, some trials at a time, and which entries were observed.

    Bins in which nothing was observed are left out; entries that were not observed are zero.
    """
    for trials in slices_of_trials(values):
        seen = entries[trials].any(-1)  # (trial, time)
        known = entries[trials][seen]  # (bin, unit or 1)
        rows = values[trials][seen] - np.asarray(mean, dtype=np.float64)  # (bin, unit)
        yield (rows if known.shape[-1] == 1 else rows * known), known


def mean_and_sd(values: Values, entries: Entries) -> tuple[PerUnit, PerUnit]:
    """Mean and SD of each unit over the bins in which it was observed."""
    number = np.maximum(entries.sum((0, 1)), 1)  # (unit or 1,)
    mean = sum(rows.sum(0) for rows, _ in deviations(values, entries)) / number
    squares = sum((rows**2).sum(0) for rows, _ in deviations(values, entries, mean))
    return mean, np.sqrt(squares / number)


def mean_and_covariance(
    values: Values, entries: Entries
) -> tuple[PerUnit, Float[np.ndarray, "unit unit"]]:
    """Mean of each unit, and covariance over the bins in which both units were observed.

    The covariance of two units that never were observed together is zero.
    """
    mean = mean_and_sd(values, entries)[0]
    products: np.ndarray | float = 0.0
    pairs: np.ndarray | float = 0.0
    for rows, known in deviations(values, entries, mean):
        counted = known.astype(np.float32)
        products = products + rows.T @ rows  # (unit, unit)
        pairs = pairs + counted.T @ counted  # (unit, unit), or (1, 1)
    return mean, products / np.maximum(pairs - 1, 1)


def kernel_power(sd_bins: float) -> float:
    """Σ k² of the smoothing kernel k: the share of a Poisson variance that smoothing leaves."""
    impulse = np.zeros(int(8 * sd_bins) * 2 + 1)
    impulse[len(impulse) // 2] = 1.0
    return float((gaussian_filter1d(impulse, sd_bins) ** 2).sum())


def wide_enough(counts: TrialCounts, sd_bins: float) -> float:
    """The SD of the smoothing [bins]: `sd_bins`, or wider where spikes are rare.

    Moments of rare spikes would be noise; a fifth of the window is the widest.
    """
    entries = counts.observed_entries
    spikes_per_bin = sum(rows.sum() for rows, _ in deviations(counts.counts, entries))
    spikes_per_bin /= entries.sum() * counts.n_units / entries.shape[-1]
    wanted = SPIKES_PER_SD / max(spikes_per_bin, 1e-6)
    widest = max(sd_bins, counts.counts.shape[1] / 5)
    return float(np.clip(wanted, sd_bins, widest))
