"""A frame that sessions share because they share conditions: what the average trial of a condition does (recipe.md, "Real").

Training sessions get it from their condition averages; a new session finds it by regressing its units on the mean
latents that the trained model holds for each condition.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.ndimage import gaussian_filter1d

from metadyn.data.disk import Keep, in_memory
from metadyn.data.smoothing import blocks
from metadyn.model.trained import Frame
from metadyn.records import TrialCounts
from metadyn.training.loop import StepReport, reported
from metadyn.training.warmstart import Start, smoothed, start_from_readout


def condition_totals(counts: TrialCounts, labels: list[str], n_bins: int) -> tuple[np.ndarray, np.ndarray]:
    """Spikes (condition, time, unit) and observed trials (condition, time) of each condition."""
    member = (np.asarray(labels)[:, None] == counts.condition[None]).astype(float)
    parts = blocks(counts.counts)
    total = sum(np.tensordot(member[:, trials], counts.counts[trials, :n_bins].astype(float), 1) for trials in parts)
    return total, member @ counts.observed[:, :n_bins].astype(float)


def poisson_regression(x: np.ndarray, total: np.ndarray, exposure: np.ndarray, variance: np.ndarray, iterations: int = 25):
    """C (unit, latent) and D (unit,) of total ~ Poisson(exposure exp(C x + D)) with C ~ N(0, variance), by Newton steps.

    x (sample, latent), total (sample, unit), exposure (sample,), variance (latent,).
    """
    design = np.concatenate([x, np.ones((len(x), 1))], 1)
    products = (design[:, :, None] * design[:, None]).reshape(len(design), -1)
    precision = np.diag(np.append(1 / variance, 1e-3))
    rate = (total.sum(0) + 0.5) / exposure.sum()
    coefficients = np.zeros((total.shape[1], design.shape[1]))
    coefficients[:, -1] = np.log(rate)
    for _ in range(iterations):
        mean = exposure[:, None] * np.exp(np.clip(design @ coefficients.T, -15, 5))
        gradient = (total - mean).T @ design - coefficients @ precision
        curvature = (mean.T @ products).reshape(-1, *precision.shape) + precision
        step = np.linalg.solve(curvature, gradient[..., None])[..., 0]
        coefficients = coefficients + np.clip(step, -1, 1)
    return coefficients[:, :-1], coefficients[:, -1]


def shared_labels(sessions: list[TrialCounts]) -> list[str]:
    return sorted(set.intersection(*[set(counts.condition) for counts in sessions]))


def shared_bins(sessions: list[TrialCounts]) -> int:
    return min(int(counts.windows.n_bins.min()) for counts in sessions)


def common_trajectories(sessions: list[TrialCounts], labels: list[str], n_bins: int, dim: int, sd_bins: float) -> np.ndarray:
    """(condition, time, latent) of unit variance: principal components of all units' averages, √-transformed."""
    averages = []
    for counts in sessions:
        total, trials = condition_totals(counts, labels, n_bins)
        mean = (
            gaussian_filter1d(total, sd_bins, axis=1) / np.maximum(gaussian_filter1d(trials, sd_bins, axis=1), 1e-6)[..., None]
        )
        averages.append(2 * np.sqrt(mean).reshape(-1, counts.n_units))
    stacked = np.concatenate(averages, 1)
    left, _, _ = np.linalg.svd(stacked - stacked.mean(0), full_matrices=False)
    return (left[:, :dim] * np.sqrt(len(left))).reshape(len(labels), n_bins, dim)


def readout_on(frame: np.ndarray, labels: list[str], counts: TrialCounts, variance: np.ndarray):
    """A session's readout C (unit, latent) and D (unit,) in the frame (condition, time, latent)."""
    total, trials = condition_totals(counts, labels, frame.shape[1])
    return poisson_regression(frame.reshape(-1, frame.shape[-1]), total.reshape(-1, counts.n_units), trials.ravel(), variance)


def regress_on(frame: np.ndarray, labels: list[str], counts: TrialCounts, variance: np.ndarray, sd_bins: float) -> Start:
    """A session's start in the frame (condition, time, latent)."""
    return start_from_readout(counts, smoothed(counts, sd_bins), *readout_on(frame, labels, counts, variance))


def common_frame_starts(
    sessions: list[TrialCounts],
    dim: int,
    sd_bins: float,
    keep: Keep = in_memory,
    report: Callable[[StepReport], None] = lambda _: None,
) -> list[Start]:
    """Starts of sessions that share conditions; the readouts' prior variance comes from a first regression of all."""
    labels, n_bins = shared_labels(sessions), shared_bins(sessions)
    frame = common_trajectories(sessions, labels, n_bins, dim, sd_bins)
    broad = [readout_on(frame, labels, counts, np.ones(frame.shape[-1]))[0] for counts in reported(sessions, "start", report)]
    variance = np.concatenate(broad).var(0) + 1e-4
    return [regress_on(frame, labels, counts, variance, sd_bins).kept(keep) for counts in reported(sessions, "start", report)]


def mean_latents(sessions: list[TrialCounts], latents: list[np.ndarray]) -> tuple[list[str], np.ndarray]:
    """Labels that all sessions share, and each one's mean latent (condition, time, latent); none without shared labels."""
    labels = shared_labels(sessions) if all(counts.condition is not None for counts in sessions) else []
    n_bins = shared_bins(sessions)
    if not labels:
        return [], np.zeros((0, n_bins, latents[0].shape[-1]))
    members = [np.asarray(labels)[:, None] == counts.condition[None] for counts in sessions]
    total = sum(np.einsum("cn,ntl->ctl", member, z[:, :n_bins]) for member, z in zip(members, latents, strict=True))
    return labels, total / sum(member.sum(1) for member in members)[:, None, None]


def spread(latents: list[np.ndarray]) -> np.ndarray:
    """SD (latent,) over all that is not NaN in arrays (trial, time, latent): variances within each, and between their means."""
    number = np.array([np.isfinite(z).sum((0, 1)) for z in latents])
    mean, within = (np.array([of(z, (0, 1), dtype=float) for z in latents]) for of in (np.nanmean, np.nanvar))
    center = (number * mean).sum(0) / number.sum(0)
    return np.sqrt((number * (within + (mean - center) ** 2)).sum(0) / number.sum(0))


def learn_frame(sessions: list[TrialCounts], latents: list[np.ndarray], weights: list[np.ndarray]) -> Frame:
    """What a model's training sessions have in common: from their latents (trial, time, latent), NaN in padding, and
    readouts (unit, latent)."""
    labels, mean = mean_latents(sessions, latents)
    means = [np.nanmean(z, 1) for z in latents]
    centers = np.array([each.mean(0) for each in means])
    within = np.concatenate([each - each.mean(0) for each in means])
    freedom = max(len(within) - len(means), 1)
    weight_var = np.concatenate(weights).var(0) + 1e-4
    return Frame(spread(latents), weight_var, tuple(labels), mean, centers, within.T @ within / freedom)
