"""First weights of sessions that share conditions, by regression on trajectories x of conditions.

Y_sti ~ Poisson(N_si exp(C_i · x_s + D_i)), C_i ~ N(0, diag(v)): Y the spikes of unit i in all N
observed windows of sample s, a bin of a condition; C (unit, latent) and D (unit,) the readout; v
(latent,) the variance of readouts. Maximum a posteriori by Newton's method (Poisson regression:
McCullagh and Nelder, Generalized Linear Models, 1989, ch. 6).
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Real

from metadyn.data.storage import Storage, in_memory
from metadyn.model.likelihoods.base import Readout
from metadyn.records import TrialCounts
from metadyn.training.execution.loop import Reporter, reported, silent
from metadyn.training.initial.activity import init_from_readout
from metadyn.training.initial.condition_averages import (
    Trajectories,
    common_trajectories,
    condition_totals,
    shared_bins,
)
from metadyn.training.initial.labels import check_shared
from metadyn.training.initial.moments import smoothed
from metadyn.training.initial.session_init import SessionInit


def init_from_conditions(
    sessions: list[TrialCounts],
    dim: int,
    sd_bins: float,
    storage: Storage = in_memory,
    report: Reporter = silent,
) -> list[SessionInit]:
    """First weights of sessions that share conditions, all in the same latents.

    The prior variance of readouts comes from a first regression of all sessions. Raises DataError
    where they share no label, or too few.
    """
    labels = check_shared(sessions)
    n_bins = shared_bins(sessions, labels)
    trajectories = common_trajectories(sessions, labels, n_bins, dim, sd_bins)
    broad = [
        readout_on(trajectories, labels, counts, np.ones(dim))[0]
        for counts in reported(sessions, "start", report)
    ]
    variance = np.concatenate(broad).var(0) + 1e-4
    return [
        init_by_regression(trajectories, labels, counts, variance, sd_bins).stored(storage)
        for counts in reported(sessions, "start", report)
    ]


def init_by_regression(
    trajectories: Trajectories,
    labels: list[str],
    counts: TrialCounts,
    variance: Float[np.ndarray, " latent"],
    sd_bins: float,
) -> SessionInit:
    """A session's first weights by regression on the trajectories of its conditions.

    variance : v, the prior variance of readouts.
    sd_bins : SD of the smoothing of counts, of which the latents are [bins].
    """
    weight, bias = readout_on(trajectories, labels, counts, variance)
    return init_from_readout(counts, smoothed(counts, sd_bins), weight, bias)


def readout_on(
    trajectories: Trajectories,
    labels: list[str],
    counts: TrialCounts,
    variance: Float[np.ndarray, " latent"],
) -> Readout:
    """C and D of a session's units; trajectories are NaN where they are not known."""
    total, windows = condition_totals(counts, labels, trajectories.shape[1])
    x = trajectories.reshape(-1, trajectories.shape[-1])  # (condition · time, latent)
    known = np.isfinite(x).all(1)
    spikes = total.reshape(len(x), -1)[known]
    exposure = windows.reshape(len(x), -1)[known]
    return poisson_regression(x[known], spikes, exposure, variance)


def n_known_averages(trajectories: Trajectories, labels: list[str], counts: TrialCounts) -> int:
    """In how many bins of conditions, where trajectories are known, the session has a window."""
    _, windows = condition_totals(counts, labels, trajectories.shape[1])
    known = np.isfinite(trajectories).all(-1)  # (condition, time)
    return int((known & (windows > 0).any(-1)).sum())


def poisson_regression(
    x: Float[np.ndarray, "sample latent"],
    total: Real[np.ndarray, "sample unit"],
    exposure: Float[np.ndarray, "sample #unit"],
    variance: Float[np.ndarray, " latent"],
    iterations: int = 25,
) -> Readout:
    """C and D of the equation above.

    total : Y.
    exposure : N, with one column where it is the same for all units.
    variance : v.
    """
    design = np.concatenate([x, np.ones((len(x), 1))], 1)  # (sample, latent + 1)
    products = (design[:, :, None] * design[:, None]).reshape(len(design), -1)
    precision = np.diag(np.append(1 / variance, 1e-3))  # of C and D: (latent + 1, latent + 1)
    rate = (total.sum(0) + 0.5) / np.maximum(exposure.sum(0), 1)
    coefficients = np.zeros((total.shape[1], design.shape[1]))  # (unit, latent + 1)
    coefficients[:, -1] = np.log(rate)
    for _ in range(iterations):
        mean = exposure * np.exp(np.clip(design @ coefficients.T, -15, 5))  # (sample, unit)
        gradient = (total - mean).T @ design - coefficients @ precision
        curvature = (mean.T @ products).reshape(-1, *precision.shape) + precision
        step = np.linalg.solve(curvature, gradient[..., None])[..., 0]
        coefficients = coefficients + np.clip(step, -1, 1)
    return coefficients[:, :-1], coefficients[:, -1]
