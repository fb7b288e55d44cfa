"""The average trial of each condition, and the trajectories that sessions share through it.

X (condition · time, latent) = √n U, with U S Vᵀ = Ā the singular value decomposition of all units'
averages Ā (condition · time, unit): 2 √(mean count), smoothed, about their mean; n rows, so that
each latent has unit variance. Alignment through condition averages: Pandarinath et al., Nature
Methods 15 (2018), 805–815; the transform √ makes Poisson variances alike (Anscombe 1948).
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int, Num, Shaped
from scipy.ndimage import gaussian_filter1d

from metadyn.data.smoothing import slices_of_trials
from metadyn.errors import DataError
from metadyn.records import TrialCounts
from metadyn.training.initial.labels import conditions, listed

MIN_WINDOWS = 3  # that make an average, of a condition that has many

Trajectories = Float[np.ndarray, "condition time latent"]


def condition_totals(
    counts: TrialCounts, labels: list[str], n_bins: int
) -> tuple[Float[np.ndarray, "condition time unit"], Float[np.ndarray, "condition time #unit"]]:
    """Spikes of each condition and bin, and in how many windows each entry was observed.

    Both are zero behind the session's longest window. The second has a last axis of 1 where all
    units are observed alike.
    """
    member = membership(counts, labels).astype(float)

    def total(values: Shaped[np.ndarray, "trial time unit_or_1"]) -> np.ndarray:
        sums = np.zeros((len(labels), min(n_bins, values.shape[1]), values.shape[2]))
        for trials in slices_of_trials(values):
            part = values[trials, :n_bins].astype(float)
            sums = sums + np.tensordot(member[:, trials], part, 1)
        return np.pad(sums, ((0, 0), (0, n_bins - sums.shape[1]), (0, 0)))

    return total(counts.counts), total(counts.observed_entries)


def membership(counts: TrialCounts, labels: list[str]) -> Bool[np.ndarray, "condition trial"]:
    """Which windows are of each condition."""
    return np.asarray(labels, dtype=str)[:, None] == conditions(counts)


def enough_windows(
    windows: Num[np.ndarray, "..."], available: Int[np.ndarray, "..."]
) -> Bool[np.ndarray, "..."]:
    """Which averages count: those over MIN_WINDOWS, or over half of a condition's windows.

    available : how many windows the condition has.
    """
    return (windows > 0) & ((windows >= MIN_WINDOWS) | (2 * windows >= available))


def shared_bins(sessions: list[TrialCounts], labels: list[str]) -> int:
    """The bins that at least half of these conditions' windows have, in every session.

    Without labels, of all windows.
    """
    medians = []
    for counts in sessions:
        n_bins = counts.windows.n_bins
        lengths = np.sort(n_bins[membership(counts, labels).any(0)] if labels else n_bins)
        medians.append(int(lengths[len(lengths) // 2]))
    return min(medians)


def averages(
    counts: TrialCounts, labels: list[str], n_bins: int, sd_bins: float
) -> tuple[Float[np.ndarray, "sample unit"], Bool[np.ndarray, "sample unit"]]:
    """2 √(mean count) of each condition and bin (sample), smoothed in time, and which count."""
    total, windows = condition_totals(counts, labels, n_bins)
    smooth_total = gaussian_filter1d(total, sd_bins, axis=1)
    smooth_windows = gaussian_filter1d(windows, sd_bins, axis=1)
    mean = smooth_total / np.maximum(smooth_windows, 1e-6)  # (condition, time, unit)
    available = membership(counts, labels).sum(1)[:, None, None]
    counting = np.broadcast_to(enough_windows(windows, available), mean.shape)
    return 2 * np.sqrt(mean).reshape(-1, counts.n_units), counting.reshape(-1, counts.n_units)


def common_trajectories(
    sessions: list[TrialCounts], labels: list[str], n_bins: int, dim: int, sd_bins: float
) -> Trajectories:
    """X of the equation above, NaN where some session has too few windows.

    Raises DataError where too few conditions and bins are left: averages about their mean span one
    dimension less than there are.
    """
    parts = [averages(counts, labels, n_bins, sd_bins) for counts in sessions]
    kept = np.all([counting.any(1) for _, counting in parts], axis=0)  # (condition · time,)
    if kept.sum() <= dim:
        raise too_few_averages(labels, n_bins, int(kept.sum()), dim)
    stacked = np.concatenate([average[kept] for average, _ in parts], 1)  # (sample, all units)
    counting = np.concatenate([counting[kept] for _, counting in parts], 1)
    mean = np.where(counting, stacked, 0.0).sum(0) / np.maximum(counting.sum(0), 1)
    deviation = np.where(counting, stacked - mean, 0.0)
    left, _, _ = np.linalg.svd(deviation, full_matrices=False)
    trajectories = np.full((len(kept), dim), np.nan)
    trajectories[kept] = left[:, :dim] * np.sqrt(len(left))
    return trajectories.reshape(len(labels), n_bins, dim)


def too_few_averages(labels: list[str], n_bins: int, n_averages: int, dim: int) -> DataError:
    """The error of so few averages that they do not determine the latents."""
    fewer = [f"`latent_dim={n_averages - 1}`"] * (n_averages > 1)
    remedies = [
        *fewer,
        "longer windows (`n_bins`)",
        "or no `condition`: each session then starts from its own activity",
    ]
    return DataError(
        "the conditions that the sessions share are too few to find the latents by",
        found=f"{len(labels)} shared labels ({listed(labels)}), windows of {n_bins} bins: "
        f"{n_averages} averages, {dim} latents",
        remedy=", ".join(remedies),
    )
