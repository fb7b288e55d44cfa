"""A start from the data alone: readout, read-in and latents of each session in one frame
(recipe.md, "Recipe P").

Without it, Poisson models collapse to the mean rate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.sparse.linalg import ArpackError, eigsh

from metadyn.data.smoothing import smooth, trial_chunks
from metadyn.data.storage import Storage, in_memory
from metadyn.model.likelihoods.base import Likelihood
from metadyn.records import TrialCounts
from metadyn.training.execution.loop import StepReport, reported

SPIKES_PER_SD = 0.25  # spikes that the mean unit should fire within one SD of the smoothing
MANY = 200  # units from which a few eigenvectors are found faster than all
RIDGE = 0.1  # on latents of variance one that follow from counts
# SD of a unit's log rate at the start; moments of rare spikes claim more, and training unlearns it
# slowly
MOST_LOG_SD = 1.5


@dataclass(frozen=True)
class SessionInit:
    """One session's start: counts ≈ link(C z + D), z ≈ projection (counts − mean) + offset.

    weight C (unit, latent), bias D (unit,), mean and sd (unit,) of the counts, projection (latent,
    unit), log_var (unit,) of the observation noise (Gaussian likelihood), latents (trial, time,
    latent) smoothed, of no meaning in padding, offset (latent,): the latents where every unit does
    as it always does.
    """

    weight: np.ndarray
    bias: np.ndarray
    mean: np.ndarray
    sd: np.ndarray
    projection: np.ndarray
    log_var: np.ndarray
    latents: np.ndarray
    offset: np.ndarray

    def turned(self, rotation: np.ndarray) -> SessionInit:
        """The same start in latents rotation @ z (an orthogonal matrix)."""
        return self.mapped(rotation, np.zeros(len(rotation)))

    def mapped(self, matrix: np.ndarray, offset: np.ndarray) -> SessionInit:
        """The same start in latents matrix @ z + offset (matrix of full rank)."""
        weight = self.weight @ np.linalg.inv(matrix)
        latents = (self.latents @ matrix.T + offset).astype(np.float32)
        moved = matrix @ self.offset + offset
        bias, projection = self.bias - weight @ offset, matrix @ self.projection
        return replace(
            self, weight=weight, bias=bias, projection=projection, latents=latents, offset=moved
        )

    def scaled(self, factor: float) -> SessionInit:
        """The same start in latents factor * z."""
        return self.mapped(factor * np.eye(len(self.offset)), np.zeros(len(self.offset)))

    def stored(self, storage: Storage) -> SessionInit:
        """The same start, its latents where `storage` has them."""
        return replace(self, latents=storage(self.latents))


def smoothed(counts: TrialCounts, sd_bins: float) -> np.ndarray:
    """Counts smoothed along time by an SD in bins, (trial, time, unit)."""
    return smooth(counts, sd_bins * counts.bin_width).counts


def deviations(
    values: np.ndarray, entries: np.ndarray, mean: np.ndarray | float = 0.0
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Values (trial, time, unit) − mean as rows (bin, unit) of doubles, some trials at a time, and
    which of them were observed.

    entries: (trial, time, unit), or (trial, time, 1) where all units are observed alike. Bins of
    which nothing was observed are left out; entries that were not are zero.
    """
    for trials in trial_chunks(values):
        seen = entries[trials].any(-1)
        known = entries[trials][seen]  # (bin, unit or 1)
        rows = values[trials][seen] - np.asarray(mean, dtype=np.float64)
        yield (rows if known.shape[-1] == 1 else rows * known), known


def moments(values: np.ndarray, entries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean (unit,) and covariance (unit, unit) of values (trial, time, unit), `entries` as of
    `deviations`.

    Each is of the bins in which the unit, or both units, were observed; the covariance of two that
    never were is zero.
    """
    mean = mean_and_sd(values, entries)[0]
    products = pairs = 0.0
    for rows, known in deviations(values, entries, mean):
        counted = known.astype(np.float32)
        products, pairs = products + rows.T @ rows, pairs + counted.T @ counted
    return mean, products / np.maximum(pairs - 1, 1)


def mean_and_sd(values: np.ndarray, entries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and SD (unit,) of values (trial, time, unit) over the bins in which each unit was
    observed."""
    number = np.maximum(entries.sum((0, 1)), 1)
    mean = sum(rows.sum(0) for rows, _ in deviations(values, entries)) / number
    return mean, np.sqrt(
        sum((rows**2).sum(0) for rows, _ in deviations(values, entries, mean)) / number
    )


def projected(
    values: np.ndarray, mean: np.ndarray, projection: np.ndarray, observed: np.ndarray
) -> np.ndarray:
    """Latents (trial, time, latent): projection (values − mean), zero where nothing was
    observed."""
    latents = [
        (values[trials] - mean) @ projection.T * observed[trials][..., None]
        for trials in trial_chunks(values)
    ]
    return np.concatenate([each.astype(np.float32) for each in latents])


def least_squares(
    values: np.ndarray,
    mean: np.ndarray,
    weight: np.ndarray,
    variance: np.ndarray,
    ridge: float,
    entries: np.ndarray,
) -> np.ndarray:
    """Latents (trial, time, latent) from the units that were observed in each bin, `entries`
    (trial, time, unit).

    Least squares of values − mean ≈ variance · weight z with noise of that `variance` (unit,), and
    a ridge on z.
    """
    products = (variance[:, None, None] * weight[:, :, None] * weight[:, None]).reshape(
        len(weight), -1
    )
    prior, latents = ridge * np.eye(weight.shape[1]), []
    for trials in trial_chunks(values):
        known = entries[trials].astype(np.float64)
        right = ((values[trials] - mean) * known) @ weight  # (trial, time, latent)
        information = (known @ products).reshape(*right.shape, -1) + prior
        latents.append(np.linalg.solve(information, right[..., None])[..., 0].astype(np.float32))
    return np.concatenate(latents)


def kernel_power(sd_bins: float) -> float:
    """Σ k² of the smoothing kernel: the share of a Poisson variance that smoothing leaves."""
    impulse = np.zeros(int(8 * sd_bins) * 2 + 1)
    impulse[len(impulse) // 2] = 1.0
    return float((gaussian_filter1d(impulse, sd_bins) ** 2).sum())


def principal_factors(covariance: np.ndarray, dim: int, iterations: int = 20) -> np.ndarray:
    """Loadings (unit, dim) of a factor model of a covariance whose diagonal is not trusted; zero
    beyond as many as units."""
    matrix = covariance.copy()
    for _ in range(iterations):
        values, vectors = leading(matrix, dim)
        loadings = vectors * np.sqrt(np.maximum(values, 1e-9))
        np.fill_diagonal(matrix, (loadings**2).sum(1))
    return with_columns(loadings, dim)


def leading(matrix: np.ndarray, number: int) -> tuple[np.ndarray, np.ndarray]:
    """The largest eigenvalues (number,) of a symmetric matrix and their vectors (unit, number), or
    as many as there are.

    Of a large matrix Lanczos finds these alone, fifty times as fast as all are found.
    """
    if len(matrix) > MANY and number < len(matrix) // 4:
        with suppress(ArpackError):
            values, vectors = eigsh(matrix, number, v0=np.ones(len(matrix)))
            order = values.argsort()[::-1]
            return values[order], vectors[:, order]
    values, vectors = np.linalg.eigh(matrix)
    return values[::-1][:number], vectors[:, ::-1][:, :number]


def with_columns(loadings: np.ndarray, dim: int) -> np.ndarray:
    """Loadings (unit, dim) with columns of zeros where there are fewer."""
    return np.pad(loadings, ((0, 0), (0, dim - loadings.shape[1])))


def rate_projection(weight: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """(latent, unit): least squares of z from counts − mean, linearised about the mean rate, with
    the prior z ~ N(0, I)."""
    information = weight.T @ (mean[:, None] * weight)
    return np.linalg.solve(information + RIDGE * np.eye(len(information)), weight.T)


def wide_enough(counts: TrialCounts, sd_bins: float) -> float:
    """The SD of smoothing [bins], wider where units fire so rarely that their moments would be
    noise."""
    entries = counts.observed_entries
    spikes_per_bin = sum(rows.sum() for rows, _ in deviations(counts.counts, entries))
    spikes_per_bin /= entries.sum() * counts.n_units / entries.shape[-1]
    return float(
        np.clip(
            SPIKES_PER_SD / max(spikes_per_bin, 1e-6),
            sd_bins,
            max(sd_bins, counts.counts.shape[1] / 5),
        )
    )


def init_by_moments(counts: TrialCounts, latent_dim: int, sd_bins: float) -> SessionInit:
    """Moments of smoothed counts under y ~ Poisson(exp(C z + D)), z ~ N(0, I)."""
    sd_bins = wide_enough(counts, sd_bins)
    smooth = smoothed(counts, sd_bins)
    mean, covariance = moments(smooth, counts.observed_entries)
    mean = np.maximum(mean, 1e-4)
    signal = covariance - np.diag(mean * kernel_power(sd_bins))
    log_covariance = np.log(np.maximum(1 + signal / np.outer(mean, mean), 0.05))
    scale = np.sqrt(mean)
    weight = principal_factors(scale[:, None] * log_covariance * scale, latent_dim) / scale[:, None]
    weight = (
        weight
        * np.minimum(1, MOST_LOG_SD / np.maximum(np.linalg.norm(weight, axis=1), 1e-9))[:, None]
    )
    bias = np.log(mean) - 0.5 * (weight**2).sum(1)
    return init_from_readout(counts, smooth, weight, bias)


def init_from_readout(
    counts: TrialCounts, smooth: np.ndarray, weight: np.ndarray, bias: np.ndarray
) -> SessionInit:
    """Read-in and latents that follow from a Poisson readout."""
    mean, sd = mean_and_sd(counts.counts, counts.observed_entries)
    mean, sd = np.maximum(mean, 1e-4), np.maximum(sd, 1e-2)
    projection = rate_projection(weight, mean)
    if counts.unit_observed is None:
        latents = projected(smooth, mean, projection, counts.observed)
    else:
        latents = least_squares(smooth, mean, weight, mean, RIDGE, counts.unit_observed)
    return SessionInit(
        weight, bias, mean, sd, projection, np.zeros(len(bias)), latents, np.zeros(weight.shape[1])
    )


def init_by_pca(counts: TrialCounts, latent_dim: int, sd_bins: float) -> SessionInit:
    """PCA; every direction of the plane keeps its scale, by which sessions can be told to have the
    same dynamics."""
    entries = counts.observed_entries
    mean, covariance = moments(counts.counts, entries)
    sample = 1 - 1 / np.maximum(
        entries.sum((0, 1)), 1
    )  # of the variance, that of these bins themselves
    sd = np.maximum(np.sqrt(sample * np.diag(covariance)), 1e-6)
    _, vectors = np.linalg.eigh(covariance)
    weight = with_columns(vectors[:, ::-1][:, :latent_dim] * np.sqrt(len(mean)), latent_dim)
    projection = np.linalg.pinv(weight)
    if counts.unit_observed is None:
        latents = projected(counts.counts, mean, projection, counts.observed)
    else:  # all units together would have the information len(mean) of each latent
        latents = least_squares(
            counts.counts, mean, weight, np.ones(len(mean)), 0.01 * len(mean), counts.unit_observed
        )
    beside = np.eye(len(mean)) - projection.T @ weight.T
    residual = sample * np.maximum(
        np.einsum("ui,uv,vi->i", beside, covariance, beside, optimize=True), 0
    )
    return SessionInit(
        weight, mean, mean, sd, projection, np.log(residual + 1e-6), latents, np.zeros(latent_dim)
    )


def canonical_rotation(latents: np.ndarray, observed: np.ndarray) -> np.ndarray:
    """The rotation to planes ordered by how fast the latents turn in them, all turning one way.

    Signs and rotations of a start per session are free; in two dimensions this is the chirality
    flip of recipe.md.
    """
    both = (observed[:, 1:] & observed[:, :-1])[..., None]
    before, after = (
        (latents[:, :-1] * both).reshape(-1, latents.shape[-1]),
        (latents[:, 1:] * both).reshape(-1, latents.shape[-1]),
    )
    turning = before.T @ after - after.T @ before
    _, vectors = np.linalg.eigh(1j * turning)
    vectors = vectors[:, ::-1]
    lead = vectors[np.abs(vectors).argmax(0), np.arange(len(turning))]
    vectors = vectors * (np.conj(lead) / np.abs(lead))
    half = len(turning) // 2
    planes = np.stack([vectors[:, :half].real, vectors[:, :half].imag], -1) * np.sqrt(2)
    rotation = np.concatenate(
        [planes.reshape(len(turning), -1), vectors[:, half : len(turning) - half].real], 1
    ).T
    left, _, right = np.linalg.svd(
        rotation
    )  # nearest orthogonal matrix: planes in which nothing turns are not determined
    return left @ right


def of_unit_variance(
    starts: list[SessionInit], sessions: list[TrialCounts], storage: Storage = in_memory
) -> list[SessionInit]:
    """The starts on one scale, on which the mean variance of all their latents is one."""
    variance = [
        start.latents[counts.observed].var(0).mean()
        for start, counts in zip(starts, sessions, strict=True)
    ]
    return [
        start.scaled(float(max(np.mean(variance), 1e-12)) ** -0.5).stored(storage)
        for start in starts
    ]


def init_from_activity(
    sessions: list[TrialCounts],
    likelihood: type[Likelihood],
    latent_dim: int,
    sd_bins: float,
    storage: Storage = in_memory,
    report: Callable[[StepReport], None] = lambda _: None,
) -> list[SessionInit]:
    """A start for each session, turned into a common frame as far as the latents alone tell."""
    make = init_by_moments if likelihood.of_counts else init_by_pca
    starts = [
        make(counts, latent_dim, sd_bins).stored(storage)
        for counts in reported(sessions, "start", report)
    ]
    if not likelihood.of_counts:
        starts = of_unit_variance(starts, sessions, storage)
    if len(sessions) == 1 or latent_dim == 1:
        return starts
    rotations = [
        canonical_rotation(start.latents, counts.observed)
        for start, counts in zip(starts, sessions, strict=True)
    ]
    return [
        start.turned(rotation).stored(storage)
        for start, rotation in zip(starts, rotations, strict=True)
    ]
