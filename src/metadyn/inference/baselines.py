"""Baselines of decoding: behaviour from smoothed spikes, and from their principal components.

Equation: x_t = Aᵀ (y * g_s)_t − Aᵀ μ, behaviour from x as in `metadyn.inference.decoding`.
Symbols: y counts, g_s Gaussian kernel of SD s, μ mean of each unit, A principal axes.
Reference: Vermani et al., arXiv:2410.05454, App. D.2.

The width s, the number of components and the penalty are found by cross-validation within the
windows that the model trained on, as the penalty of the decoder of its latents is; no window that
is scored takes part.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from metadyn.data.smoothing import smooth
from metadyn.data.splits import evenly_spaced, is_continuous
from metadyn.inference.decoding import (
    FOLDS,
    Decoder,
    best_penalty,
    channels_known_together,
    consecutive_folds,
    fit_decoder,
    interleaved_folds,
    moments_by_fold,
)
from metadyn.records import TrialCounts

LAGS = 8  # bins decoded from, of latents and of spikes alike
WIDTHS = (0.025, 0.05, 0.1, 0.2, 0.4)  # s, SD of the Gaussian
COMPONENTS = (2, 4, 8, 16, 32)
# Of more units, the smoothed spikes too are their first so many principal components: regressions
# stay small
MOST_COMPONENTS = 128
# The search uses evenly spread windows of so many bins; the decoder that it finds is fitted to all
BINS_TO_SEARCH = 10_000


@dataclass(frozen=True)
class Components:
    """Principal components of spikes smoothed by `sd` seconds: (counts − mean) axes."""

    sd: float
    mean: Float[np.ndarray, " unit"]
    axes: Float[np.ndarray, "unit component"]

    @staticmethod
    def of(counts: TrialCounts, sd: float, most: int = MOST_COMPONENTS) -> Components:
        """Of the observed bins; an entry that was not observed counts as the mean of its unit."""
        observed = np.broadcast_to(counts.observed_entries, counts.counts.shape)
        flat = smooth(counts, sd).counts[counts.observed].astype(np.float64)  # (bin, unit)
        seen = observed[counts.observed]
        mean = (flat * seen).sum(0) / np.maximum(seen.sum(0), 1)
        centered = np.where(seen, flat - mean, 0.0)
        _, axes = np.linalg.eigh(centered.T @ centered)  # ascending
        return Components(sd, mean, axes[:, ::-1][:, :most])

    def __call__(self, counts: TrialCounts) -> Float[np.ndarray, "trial time component"]:
        """Components of each bin, NaN where nothing was observed."""
        deviations = smooth(counts, self.sd).counts - self.mean
        centered = np.where(counts.observed_entries, deviations, 0.0)
        return np.where(counts.observed[..., None], centered @ self.axes, np.nan)


@dataclass(frozen=True)
class SpikeDecoder:
    """Behaviour from components of smoothed spikes."""

    components: Components
    decoder: Decoder

    def __call__(self, counts: TrialCounts) -> Float[np.ndarray, "trial time channel"]:
        """Behaviour of each bin, NaN where a bin that it reads was not observed."""
        return self.decoder(self.components(counts))


def folds_of(counts: TrialCounts) -> Int[np.ndarray, " trial"]:
    """Folds for cross-validation within these windows."""
    if is_continuous(counts.windows):
        return consecutive_folds(counts.n_trials)
    return interleaved_folds(counts.n_trials)


def windows_to_search(counts: TrialCounts) -> Int[np.ndarray, " chosen"]:
    """Evenly spread windows (indices) of no more than about BINS_TO_SEARCH bins, and two a fold at
    least."""
    most = max(2 * FOLDS, BINS_TO_SEARCH // counts.counts.shape[1])
    return evenly_spaced(counts.n_trials, most)


def errors_by_number(
    features: Float[np.ndarray, "trial time component"],
    behavior: Float[np.ndarray, "trial time channel"],
    lags: int,
    fold: Int[np.ndarray, " trial"],
) -> dict[int, float]:
    """Cross-validated squared error of decoders of the first components, by how many they are; the
    last is that of all."""
    n_all = features.shape[-1]
    numbers = [number for number in COMPONENTS if number < n_all] + [n_all]
    errors = dict.fromkeys(numbers, 0.0)
    for group in channels_known_together(behavior):
        folds = moments_by_fold(features, behavior[..., group], lags, fold).values()
        for number in numbers if folds else ():
            # lagged features are ordered (lag, component): the first components of each lag
            chosen = (np.arange(lags)[:, None] * n_all + np.arange(number)).ravel()
            error, _ = best_penalty([each.of_features(chosen) for each in folds])
            errors[number] += error
    return errors


def spike_decoders(training: TrialCounts, lags: int = LAGS) -> dict[str, SpikeDecoder]:
    """`smoothed_spikes` and `principal_components`, found and fitted on these windows.

    Raises
    ------
    ValueError : the windows have no behaviour.
    """
    behavior = training.behavior
    if behavior is None:
        raise ValueError("decoders are fitted to windows that have behaviour")
    searched = windows_to_search(training)
    few = training.select(searched)
    of_all = []  # (error, SD, number of components): the least is chosen
    of_some = []
    for sd in WIDTHS:
        features = Components.of(few, sd)(few)
        *fewer, every = errors_by_number(features, behavior[searched], lags, folds_of(few)).items()
        n_all, error_of_all = every
        of_all.append((error_of_all, sd, n_all))
        of_some += [(error, sd, number) for number, error in fewer or [every]]
    decoders = {}
    best = {"smoothed_spikes": min(of_all), "principal_components": min(of_some)}
    for name, (_, sd, number) in best.items():
        components = Components.of(training, sd, number)
        features = components(training)
        decoder = fit_decoder(features, behavior, lags, folds_of(training))
        decoders[name] = SpikeDecoder(components, decoder)
    return decoders
