"""A session's first weights from its own activity: method of moments for counts, PCA otherwise.

Counts: y ~ Poisson(exp(C z + D)), z ~ N(0, I), so that E y = m = exp(D + |C|²/2) and
Cov(y)_ij = m_i m_j (exp(C_i · C_j) − 1) + δ_ij m_i; C and D follow from the moments of y.
Buesing, Macke and Sahani, NeurIPS 2012 (spectral learning for Poisson observations). Without it,
Poisson models collapse to the mean rate.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from metadyn.data.storage import Storage, in_memory
from metadyn.model.likelihoods.base import Likelihood
from metadyn.records import TrialCounts
from metadyn.training.execution.loop import Reporter, reported, silent
from metadyn.training.initial.factors import principal_factors, with_columns
from metadyn.training.initial.latents import RIDGE, least_squares, projected, rate_projection
from metadyn.training.initial.moments import (
    PerUnit,
    kernel_power,
    mean_and_covariance,
    mean_and_sd,
    smoothed,
    wide_enough,
)
from metadyn.training.initial.rotation import canonical_rotation
from metadyn.training.initial.session_init import SessionInit, Weights

# SD of a unit's log rate at first; moments of rare spikes claim more, and training unlearns it
# slowly
MOST_LOG_SD = 1.5
NOISE_SHARE = 0.01  # variance of the noise, of that of a latent, in PCA with missing entries


def init_from_activity(
    sessions: list[TrialCounts],
    likelihood: type[Likelihood],
    latent_dim: int,
    sd_bins: float,
    storage: Storage = in_memory,
    report: Reporter = silent,
) -> list[SessionInit]:
    """First weights of each session by itself, rotated so that their latents move alike.

    sd_bins : SD of the smoothing of counts [bins].
    storage : where the latents are kept.
    """
    initialise = init_by_moments if likelihood.of_counts else init_by_pca
    inits = []
    for counts in reported(sessions, "start", report):
        inits.append(initialise(counts, latent_dim, sd_bins).stored(storage))
    if not likelihood.of_counts:
        inits = of_unit_variance(inits, sessions, storage)
    if len(sessions) == 1 or latent_dim == 1:
        return inits
    rotations = [
        canonical_rotation(init.latents, counts.observed)
        for init, counts in zip(inits, sessions, strict=True)
    ]
    return [
        init.rotated(rotation).stored(storage)
        for init, rotation in zip(inits, rotations, strict=True)
    ]


def of_unit_variance(
    inits: list[SessionInit], sessions: list[TrialCounts], storage: Storage = in_memory
) -> list[SessionInit]:
    """All sessions on one scale, on which the mean variance of all their latents is one."""
    variance = [
        init.latents[counts.observed].var(0).mean()
        for init, counts in zip(inits, sessions, strict=True)
    ]
    factor = float(max(np.mean(variance), 1e-12)) ** -0.5
    return [init.scaled(factor).stored(storage) for init in inits]


def init_by_moments(counts: TrialCounts, latent_dim: int, sd_bins: float) -> SessionInit:
    """Weights by the moments of smoothed counts, read-in and latents that follow from it."""
    sd_bins = wide_enough(counts, sd_bins)
    smooth = smoothed(counts, sd_bins)
    mean, covariance = mean_and_covariance(smooth, counts.observed_entries)
    mean = np.maximum(mean, 1e-4)
    weight = weights_by_moments(mean, covariance, latent_dim, sd_bins)
    bias = np.log(mean) - 0.5 * (weight**2).sum(1)
    return init_from_readout(counts, smooth, weight, bias)


def weights_by_moments(
    mean: PerUnit, covariance: Float[np.ndarray, "unit unit"], latent_dim: int, sd_bins: float
) -> Weights:
    """C of the equation above: factors of log(1 + (Cov − Poisson noise) / m mᵀ).

    Units are weighted by √m, the inverse SD of the log of a count.
    """
    signal = covariance - np.diag(mean * kernel_power(sd_bins))
    log_covariance = np.log(np.maximum(1 + signal / np.outer(mean, mean), 0.05))
    scale = np.sqrt(mean)
    weighted = scale[:, None] * log_covariance * scale
    weight = principal_factors(weighted, latent_dim) / scale[:, None]
    log_sd = np.linalg.norm(weight, axis=1)  # of each unit's log rate
    return weight * np.minimum(1, MOST_LOG_SD / np.maximum(log_sd, 1e-9))[:, None]


def init_from_readout(
    counts: TrialCounts,
    smooth: Float[np.ndarray, "trial time unit"],
    weight: Weights,
    bias: PerUnit,
) -> SessionInit:
    """First weights with a given Poisson readout: read-in and latents that follow from it.

    smooth : the smoothed counts, of which the latents are.
    """
    mean, sd = mean_and_sd(counts.counts, counts.observed_entries)
    mean = np.maximum(mean, 1e-4)
    projection = rate_projection(weight, mean)
    if counts.unit_observed is None:
        latents = projected(smooth, mean, projection, counts.observed)
    else:
        latents = least_squares(smooth, mean, weight, mean, RIDGE, counts.unit_observed)
    return SessionInit(
        weight=weight,
        bias=bias,
        mean=mean,
        sd=np.maximum(sd, 1e-2),
        projection=projection,
        log_var=np.zeros(len(bias)),
        latents=latents,
        offset=np.zeros(weight.shape[1]),
    )


def init_by_pca(counts: TrialCounts, latent_dim: int, sd_bins: float) -> SessionInit:
    """Weights by principal components of continuous observations, which are not smoothed.

    Every direction keeps its scale, without which sessions of the same dynamics would differ.
    """
    entries = counts.observed_entries
    mean, covariance = mean_and_covariance(counts.counts, entries)
    n_units = len(mean)
    # (n − 1) / n: the variance of these bins themselves, not that of where they come from
    sample = 1 - 1 / np.maximum(entries.sum((0, 1)), 1)
    sd = np.maximum(np.sqrt(sample * np.diag(covariance)), 1e-6)
    _, vectors = np.linalg.eigh(covariance)
    components = vectors[:, ::-1][:, :latent_dim]  # largest variance first
    weight = with_columns(components * np.sqrt(n_units), latent_dim)
    projection = np.linalg.pinv(weight)
    if counts.unit_observed is None:
        latents = projected(counts.counts, mean, projection, counts.observed)
    else:
        # All units together would have the information n_units about each latent
        ridge = NOISE_SHARE * n_units
        latents = least_squares(
            counts.counts, mean, weight, np.ones(n_units), ridge, counts.unit_observed
        )
    residual = sample * residual_variance(covariance, weight, projection)
    return SessionInit(
        weight=weight,
        bias=mean,
        mean=mean,
        sd=sd,
        projection=projection,
        log_var=np.log(residual + 1e-6),
        latents=latents,
        offset=np.zeros(latent_dim),
    )


def residual_variance(
    covariance: Float[np.ndarray, "unit unit"],
    weight: Weights,
    projection: Float[np.ndarray, "latent unit"],
) -> PerUnit:
    """diag(B S B), with B = I − C W: the variance of each unit that the latents leave."""
    beside = np.eye(len(weight)) - projection.T @ weight.T
    residual = np.einsum("ui,uv,vi->i", beside, covariance, beside, optimize=True)
    return np.maximum(residual, 0)
