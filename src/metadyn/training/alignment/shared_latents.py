"""A frame that sessions share because they share conditions: what the average trial of a condition
does (recipe.md, "Real").

Training sessions get it from their condition averages; a new session finds it by regressing its
units on the mean latents that the trained model holds for each condition.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.ndimage import gaussian_filter1d

from metadyn.data.smoothing import trial_chunks
from metadyn.data.storage import Storage, in_memory
from metadyn.errors import DataError
from metadyn.model.trained import SharedLatents
from metadyn.records import TrialCounts
from metadyn.training.alignment.labels import check_shared, conditions, listed, shared_labels
from metadyn.training.execution.loop import StepReport, reported
from metadyn.training.initial.moments import SessionInit, init_from_readout, smoothed

FEWEST = 3  # windows that make an average, where a condition has many


def condition_totals(
    counts: TrialCounts, labels: list[str], n_bins: int
) -> tuple[np.ndarray, np.ndarray]:
    """Spikes (condition, time, unit) and observed windows (condition, time, unit, or 1 where all
    units are observed alike) of each condition; both are zero behind the session's longest
    window."""
    member = members(counts, labels).astype(float)

    def total(values: np.ndarray) -> np.ndarray:
        sums = sum(
            np.tensordot(member[:, trials], values[trials, :n_bins].astype(float), 1)
            for trials in trial_chunks(values)
        )
        return np.pad(sums, ((0, 0), (0, n_bins - sums.shape[1]), (0, 0)))

    return total(counts.counts), total(counts.observed_entries)


def members(counts: TrialCounts, labels: list[str]) -> np.ndarray:
    """Which windows are of each condition: (condition, trial)."""
    return np.asarray(labels, dtype=str)[:, None] == conditions(counts)


def enough(windows: np.ndarray, of: np.ndarray) -> np.ndarray:
    """Which averages count, over so many of a condition's `of` windows: over FEWEST, or else over
    half of them."""
    return (windows > 0) & ((windows >= FEWEST) | (2 * windows >= of))


def poisson_regression(
    x: np.ndarray,
    total: np.ndarray,
    exposure: np.ndarray,
    variance: np.ndarray,
    iterations: int = 25,
):
    """C (unit, latent) and D (unit,) of total ~ Poisson(exposure exp(C x + D)) with C ~ N(0,
    variance), by Newton steps.

    x (sample, latent), total (sample, unit), exposure (sample, unit or 1), variance (latent,).
    """
    design = np.concatenate([x, np.ones((len(x), 1))], 1)
    products = (design[:, :, None] * design[:, None]).reshape(len(design), -1)
    precision = np.diag(np.append(1 / variance, 1e-3))
    rate = (total.sum(0) + 0.5) / np.maximum(exposure.sum(0), 1)
    coefficients = np.zeros((total.shape[1], design.shape[1]))
    coefficients[:, -1] = np.log(rate)
    for _ in range(iterations):
        mean = exposure * np.exp(np.clip(design @ coefficients.T, -15, 5))
        gradient = (total - mean).T @ design - coefficients @ precision
        curvature = (mean.T @ products).reshape(-1, *precision.shape) + precision
        step = np.linalg.solve(curvature, gradient[..., None])[..., 0]
        coefficients = coefficients + np.clip(step, -1, 1)
    return coefficients[:, :-1], coefficients[:, -1]


def shared_bins(sessions: list[TrialCounts], labels: list[str]) -> int:
    """The bins that at least half of the windows of these conditions have, in every session;
    without labels, of all windows."""
    lengths = [
        counts.windows.n_bins[members(counts, labels).any(0)] if labels else counts.windows.n_bins
        for counts in sessions
    ]
    return min(int(np.sort(n_bins)[len(n_bins) // 2]) for n_bins in lengths)


def averages(
    counts: TrialCounts, labels: list[str], n_bins: int, sd_bins: float
) -> tuple[np.ndarray, np.ndarray]:
    """√-transformed mean counts (sample, unit) of conditions and bins, smoothed in time, and which
    of them count."""
    total, windows = condition_totals(counts, labels, n_bins)
    smooth_total, smooth_windows = (
        gaussian_filter1d(values, sd_bins, axis=1) for values in (total, windows)
    )
    mean = smooth_total / np.maximum(smooth_windows, 1e-6)
    counting = enough(windows, members(counts, labels).sum(1)[:, None, None])
    return 2 * np.sqrt(mean).reshape(-1, counts.n_units), np.broadcast_to(
        counting, mean.shape
    ).reshape(-1, counts.n_units)


def common_trajectories(
    sessions: list[TrialCounts], labels: list[str], n_bins: int, dim: int, sd_bins: float
) -> np.ndarray:
    """(condition, time, latent) of unit variance: principal components of all units' averages,
    √-transformed.

    NaN where some session has too few windows of that condition and bin. Raises DataError where
    fewer are left than tell the latents: their averages, about their mean, span one dimension less
    than there are.
    """
    parts = [averages(counts, labels, n_bins, sd_bins) for counts in sessions]
    kept = np.all([counting.any(1) for _, counting in parts], axis=0)
    if kept.sum() <= dim:
        raise too_few_averages(labels, n_bins, int(kept.sum()), dim)
    stacked, counting = (
        np.concatenate([part[which][kept] for part in parts], 1) for which in (0, 1)
    )
    mean = np.where(counting, stacked, 0.0).sum(0) / np.maximum(counting.sum(0), 1)
    left, _, _ = np.linalg.svd(np.where(counting, stacked - mean, 0.0), full_matrices=False)
    frame = np.full((len(kept), dim), np.nan)
    frame[kept] = left[:, :dim] * np.sqrt(len(left))
    return frame.reshape(len(labels), n_bins, dim)


def too_few_averages(labels: list[str], n_bins: int, n_averages: int, dim: int) -> DataError:
    fewer = [f"`latent_dim={n_averages - 1}`"] * (n_averages > 1)
    return DataError(
        "the conditions that the sessions share are too few to find the latents by",
        found=f"{len(labels)} shared labels ({listed(labels)}), windows of {n_bins} bins: {n_averages} averages, {dim} latents",
        remedy=", ".join(
            [
                *fewer,
                "longer windows (`n_bins`)",
                "or no `condition`: each session then starts from its own activity",
            ]
        ),
    )


def readout_on(frame: np.ndarray, labels: list[str], counts: TrialCounts, variance: np.ndarray):
    """A session's readout C (unit, latent) and D (unit,) in the frame (condition, time, latent),
    NaN where it is not known."""
    total, windows = condition_totals(counts, labels, frame.shape[1])
    x = frame.reshape(-1, frame.shape[-1])
    known = np.isfinite(x).all(1)
    rows = (values.reshape(len(x), -1)[known] for values in (total, windows))
    return poisson_regression(x[known], *rows, variance)


def n_known(frame: np.ndarray, labels: list[str], counts: TrialCounts) -> int:
    """In how many conditions and bins of the frame (condition, time, latent) the session has a
    window."""
    _, windows = condition_totals(counts, labels, frame.shape[1])
    return int((np.isfinite(frame).all(-1) & (windows > 0).any(-1)).sum())


def init_by_regression(
    frame: np.ndarray, labels: list[str], counts: TrialCounts, variance: np.ndarray, sd_bins: float
) -> SessionInit:
    """A session's start in the frame (condition, time, latent)."""
    return init_from_readout(
        counts, smoothed(counts, sd_bins), *readout_on(frame, labels, counts, variance)
    )


def init_from_conditions(
    sessions: list[TrialCounts],
    dim: int,
    sd_bins: float,
    storage: Storage = in_memory,
    report: Callable[[StepReport], None] = lambda _: None,
) -> list[SessionInit]:
    """Starts of sessions that share conditions; the readouts' prior variance comes from a first
    regression of all."""
    labels = check_shared(sessions)
    n_bins = shared_bins(sessions, labels)
    frame = common_trajectories(sessions, labels, n_bins, dim, sd_bins)
    broad = [
        readout_on(frame, labels, counts, np.ones(frame.shape[-1]))[0]
        for counts in reported(sessions, "start", report)
    ]
    variance = np.concatenate(broad).var(0) + 1e-4
    return [
        init_by_regression(frame, labels, counts, variance, sd_bins).stored(storage)
        for counts in reported(sessions, "start", report)
    ]


def mean_latents(
    sessions: list[TrialCounts], latents: list[np.ndarray]
) -> tuple[list[str], np.ndarray]:
    """Labels that all sessions share, and each one's mean latent (condition, time, latent), over
    the windows that last so long, NaN where they are too few; none without shared labels."""
    labels = shared_labels(sessions)
    n_bins = shared_bins(sessions, labels)
    if not labels:
        return [], np.zeros((0, n_bins, latents[0].shape[-1]))
    of = [members(counts, labels) for counts in sessions]
    inside = [
        np.arange(n_bins) < counts.windows.n_bins[:, None] for counts in sessions
    ]  # (trial, time)
    within = (
        np.where(has[..., None], z[:, :n_bins], 0) for has, z in zip(inside, latents, strict=True)
    )
    total = sum(np.einsum("cn,ntl->ctl", member, z) for member, z in zip(of, within, strict=True))
    windows = sum(member.astype(int) @ has for member, has in zip(of, inside, strict=True))[
        ..., None
    ]
    counting = enough(windows, sum(member.sum(1) for member in of)[:, None, None])
    return labels, np.where(counting, total / np.maximum(windows, 1), np.nan)


def spread(latents: list[np.ndarray]) -> np.ndarray:
    """SD (latent,) over all that is not NaN in arrays (trial, time, latent): variances within each,
    and between their means."""
    number = np.array([np.isfinite(z).sum((0, 1)) for z in latents])
    mean, within = (
        np.array([of(z, (0, 1), dtype=float) for z in latents]) for of in (np.nanmean, np.nanvar)
    )
    center = (number * mean).sum(0) / number.sum(0)
    return np.sqrt((number * (within + (mean - center) ** 2)).sum(0) / number.sum(0))


def shared_latents_of(
    sessions: list[TrialCounts], latents: list[np.ndarray], weights: list[np.ndarray]
) -> SharedLatents:
    """What a model's training sessions have in common: from their latents (trial, time, latent),
    NaN in padding, and readouts (unit, latent)."""
    labels, mean = mean_latents(sessions, latents)
    means = [np.nanmean(z, 1) for z in latents]
    centers = np.array([each.mean(0) for each in means])
    within = np.concatenate([each - each.mean(0) for each in means])
    freedom = max(len(within) - len(means), 1)
    weight_var = np.concatenate(weights).var(0) + 1e-4
    return SharedLatents(
        spread(latents), weight_var, tuple(labels), mean, centers, within.T @ within / freedom
    )
