"""What a model's latents are held against in decoding: smoothed spikes, and their principal
components.

Their smoothing width, number of components and penalty are searched by cross-validation within the
windows that the model trained on, as the penalty of its own decoder is; nothing here meets a window
that is scored.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from metadyn.data.smoothing import smooth
from metadyn.data.splits import evenly, is_continuous
from metadyn.inference.decoding import (
    FOLDS,
    Decoder,
    best_penalty,
    consecutive,
    fit_decoder,
    interleaved,
    known_together,
    moments_by_fold,
)
from metadyn.records import TrialCounts

LAGS = 8  # bins decoded from, of latents and of spikes alike
WIDTHS = (0.025, 0.05, 0.1, 0.2, 0.4)  # s, SD of the Gaussian
COMPONENTS = (2, 4, 8, 16, 32)
# Of more units, the smoothed spikes too are their first so many principal components: regressions
# stay small
MOST_COMPONENTS = 128
BINS_TO_SEARCH = 10_000  # of evenly spread windows; the decoder that is found then learns on all


@dataclass(frozen=True)
class Components:
    """Principal components of spikes smoothed by `sd` seconds: (counts − mean (unit,)) axes (unit,
    component)."""

    sd: float
    mean: np.ndarray
    axes: np.ndarray

    @staticmethod
    def of(counts: TrialCounts, sd: float, most: int = MOST_COMPONENTS) -> Components:
        """Of the observed bins; an entry that was not observed counts as the unit's mean."""
        flat = smooth(counts, sd).counts[counts.observed].astype(np.float64)  # (bin, unit)
        seen = np.broadcast_to(counts.observed_entries, counts.counts.shape)[counts.observed]
        mean = (flat * seen).sum(0) / np.maximum(seen.sum(0), 1)
        centered = np.where(seen, flat - mean, 0.0)
        _, axes = np.linalg.eigh(centered.T @ centered)
        return Components(sd, mean, axes[:, ::-1][:, :most])

    def __call__(self, counts: TrialCounts) -> np.ndarray:
        """(trial, time, component), NaN where nothing was observed."""
        centered = np.where(
            counts.observed_entries, smooth(counts, self.sd).counts - self.mean, 0.0
        )
        return np.where(counts.observed[..., None], centered @ self.axes, np.nan)


@dataclass(frozen=True)
class SpikeDecoder:
    """Behaviour from components of smoothed spikes."""

    components: Components
    decoder: Decoder

    def __call__(self, counts: TrialCounts) -> np.ndarray:
        """(trial, time, channel), NaN where a bin that it reads was not observed."""
        return self.decoder(self.components(counts))


def folds_of(counts: TrialCounts) -> np.ndarray:
    """Folds (trial,) for cross-validation within these windows."""
    make = consecutive if is_continuous(counts.windows) else interleaved
    return make(counts.n_trials)


def to_search(counts: TrialCounts) -> TrialCounts:
    """Evenly spread windows of no more than about BINS_TO_SEARCH bins, and two a fold at least."""
    return counts.select(
        evenly(counts.n_trials, max(2 * FOLDS, BINS_TO_SEARCH // counts.counts.shape[1]))
    )


def errors_of(components: Components, counts: TrialCounts, lags: int) -> dict[int, float]:
    """Cross-validated squared error of decoders of the first components, by their number; the last
    is that of all."""
    features, fold = components(counts), folds_of(counts)
    every = features.shape[-1]
    numbers = [number for number in COMPONENTS if number < every] + [every]
    errors = dict.fromkeys(numbers, 0.0)
    for group in known_together(counts.behavior):
        folds = moments_by_fold(features, counts.behavior[..., group], lags, fold).values()
        for number in numbers if folds else ():
            chosen = (np.arange(lags)[:, None] * every + np.arange(number)).ravel()
            errors[number] += best_penalty([each.of_features(chosen) for each in folds])[0]
    return errors


def spike_decoders(training: TrialCounts, lags: int = LAGS) -> dict[str, SpikeDecoder]:
    """`smoothed_spikes` and `principal_components`, found and fitted on these windows, which hold
    behaviour."""
    few, whole, part = to_search(training), [], []
    for sd in WIDTHS:
        *fewer, (every, error) = errors_of(Components.of(few, sd), few, lags).items()
        whole.append((error, sd, every))
        part += [(error, sd, number) for number, error in fewer or [(every, error)]]
    return {
        name: fitted(Components.of(training, sd, number), training, lags)
        for name, (_, sd, number) in (
            ("smoothed_spikes", min(whole)),
            ("principal_components", min(part)),
        )
    }


def fitted(components: Components, training: TrialCounts, lags: int) -> SpikeDecoder:
    """The decoder of these components, fitted to all windows, its penalty by cross-validation."""
    return SpikeDecoder(
        components, fit_decoder(components(training), training.behavior, lags, folds_of(training))
    )
