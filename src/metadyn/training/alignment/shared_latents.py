"""The latents that training sessions have in common, by which a new session finds its place.

Mean latent of a condition c and bin t over all sessions' windows n: z̄_ct = Σ_n z_nt / N_ct. Prior
of a session's mean latent: mean of each session's trials, and covariance of a trial's mean latent
about it within sessions. The paper adapts read-in and likelihood to a new session by gradient
descent alone (Vermani et al., arXiv:2410.05454, appendix D.1); these let it start close.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from metadyn.model.trained import SharedLatents
from metadyn.records import TrialCounts
from metadyn.training.initial.condition_averages import (
    Trajectories,
    enough_windows,
    membership,
    shared_bins,
)
from metadyn.training.initial.labels import shared_labels

SessionLatents = Float[np.ndarray, "_trial _time latent"]  # NaN in padding


def shared_latents_of(
    sessions: list[TrialCounts],
    latents: list[SessionLatents],
    weights: list[Float[np.ndarray, "_unit latent"]],
) -> SharedLatents:
    """What the latents of training sessions, and their readouts C, have in common."""
    labels, mean = mean_latents(sessions, latents)
    means = [np.nanmean(z, 1) for z in latents]  # of each trial: (trial, latent)
    centers = np.array([each.mean(0) for each in means])  # (session, latent)
    within = np.concatenate([each - each.mean(0) for each in means])  # (all trials, latent)
    freedom = max(len(within) - len(means), 1)
    return SharedLatents(
        latent_sd=pooled_sd(latents),
        weight_var=np.concatenate(weights).var(0) + 1e-4,
        labels=tuple(labels),
        latents=mean,
        centers=centers,
        trial_spread=within.T @ within / freedom,
    )


def mean_latents(
    sessions: list[TrialCounts], latents: list[SessionLatents]
) -> tuple[list[str], Trajectories]:
    """Labels that all sessions share, and the mean latent of each over the windows so long.

    NaN where windows are too few; no labels and no rows where the sessions share none.
    """
    labels = shared_labels(sessions)
    n_bins = shared_bins(sessions, labels)
    if not labels:
        return [], np.zeros((0, n_bins, latents[0].shape[-1]))
    n_labels, n_latents = len(labels), latents[0].shape[-1]
    total = np.zeros((n_labels, n_bins, n_latents), np.result_type(*latents))
    windows = np.zeros((n_labels, n_bins), int)
    available = np.zeros(n_labels, int)
    for counts, z in zip(sessions, latents, strict=True):
        member = membership(counts, labels)  # (condition, trial)
        inside = np.arange(n_bins) < counts.windows.n_bins[:, None]  # (trial, time)
        known = np.where(inside[..., None], z[:, :n_bins], 0)
        total = total + np.einsum("cn,ntl->ctl", member, known)
        windows = windows + member.astype(int) @ inside
        available = available + member.sum(1)
    counting = enough_windows(windows[..., None], available[:, None, None])
    return labels, np.where(counting, total / np.maximum(windows, 1)[..., None], np.nan)


def pooled_sd(latents: list[SessionLatents]) -> Float[np.ndarray, " latent"]:
    """SD of all latents that are not NaN: variances within sessions, and between their means."""
    number = np.array([np.isfinite(z).sum((0, 1)) for z in latents])  # (session, latent)
    mean = np.array([np.nanmean(z, (0, 1), dtype=float) for z in latents])
    within = np.array([np.nanvar(z, (0, 1), dtype=float) for z in latents])
    center = (number * mean).sum(0) / number.sum(0)
    return np.sqrt((number * (within + (mean - center) ** 2)).sum(0) / number.sum(0))
