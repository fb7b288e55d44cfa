"""Linear decoding of behaviour from latents or spikes, with past bins: learned on some windows,
read on others (App. D.2).

r² here and in `metadyn.inference.scores` is one and the same: beside the mean over the windows that
the model trained on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

PENALTIES = 10.0 ** np.arange(-4, 3)  # of the mean feature variance
FOLDS = 5
MOST_VALUES = 2**24  # lagged features held at once (128 MiB)
RELATIVE, ABSOLUTE = (
    1e-9,
    1e-10,
)  # SD of what does not vary, of its largest value and in its unit: rounding of interpolation


def with_past(features: np.ndarray, lags: int) -> np.ndarray:
    """Each bin beside the `lags - 1` before it: (trial, time, lags * feature); the first bin stands
    for those before it."""
    past = np.clip(np.arange(features.shape[1])[:, None] - np.arange(lags), 0, None)
    return features[:, past].reshape(*features.shape[:2], -1)


def r2(true: np.ndarray, predicted: np.ndarray, mean: np.ndarray) -> float:
    """1 − Σ(y − ŷ)² / Σ(y − ȳ)² over known values, channels together; NaN where no channel varies.

    true, predicted (..., channel), NaN where not known; mean (channel,): ȳ, of the windows that the
    model trained on.
    """
    error, total, varies = squares(true, predicted, mean)
    return float(1 - error.sum() / total.sum()) if varies.any() else float("nan")


def r2_by_channel(true: np.ndarray, predicted: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """The same of each channel (channel,), NaN of those that do not vary."""
    error, total, varies = squares(true, predicted, mean)
    return 1 - np.divide(error, total, out=np.full(len(error), np.nan), where=varies)


def squares(
    true: np.ndarray, predicted: np.ndarray, mean: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Σ(y − ŷ)² and Σ(y − ȳ)² over the known values of each channel, and whether the channel varies
    in them: (channel,)."""
    known = np.isfinite(true) & np.isfinite(predicted)
    axes = tuple(range(true.ndim - 1))
    error = np.where(known, true - predicted, 0.0) ** 2
    total = np.where(known, true - mean, 0.0) ** 2
    return error.sum(axes), total.sum(axes), vary(np.where(known, true, np.nan))


def vary(values: np.ndarray) -> np.ndarray:
    """Which channels (channel,) of values (..., channel) are not one value throughout, but for
    rounding."""
    flat = values.reshape(-1, values.shape[-1])
    known = np.isfinite(flat)
    number = np.maximum(known.sum(0), 1)
    center = np.where(known, flat, 0.0).sum(0) / number
    sd = np.sqrt((np.where(known, flat - center, 0.0) ** 2).sum(0) / number)
    return sd > RELATIVE * np.abs(np.where(known, flat, 0.0)).max(0, initial=0.0) + ABSOLUTE


@dataclass(frozen=True)
class Decoder:
    """behaviour ≈ (features of `lags` bins) weight + intercept; weight (lags * feature, channel),
    intercept (channel,)."""

    weight: np.ndarray
    intercept: np.ndarray
    lags: int = 1

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """(trial, time, feature) → (trial, time, channel), NaN where a bin that it reads is NaN."""
        out = np.empty((*features.shape[:2], len(self.intercept)))
        for trials in some_trials(features, self.lags):
            out[trials] = with_past(features[trials], self.lags) @ self.weight + self.intercept
        return out


def some_trials(features: np.ndarray, lags: int) -> Iterator[slice]:
    """Trials of which MOST_VALUES lagged features are held at once."""
    size = max(1, MOST_VALUES // (lags * features[0].size))
    return (slice(first, first + size) for first in range(0, len(features), size))


@dataclass(frozen=True)
class Moments:
    """Sums over bins, from which ridge regressions and their squared errors follow: number, Σx, Σy,
    Σxxᵀ, Σxyᵀ, Σy²."""

    number: float
    x: np.ndarray
    y: np.ndarray
    xx: np.ndarray
    xy: np.ndarray
    yy: np.ndarray

    @staticmethod
    def of(x: np.ndarray, y: np.ndarray) -> Moments:
        """Of features x (bin, feature) and behaviour y (bin, channel)."""
        return Moments(float(len(x)), x.sum(0), y.sum(0), x.T @ x, x.T @ y, (y**2).sum(0))

    def __add__(self, other: Moments) -> Moments:
        return Moments(*(mine + its for mine, its in zip(self.parts, other.parts, strict=True)))

    def __sub__(self, other: Moments) -> Moments:
        return Moments(*(mine - its for mine, its in zip(self.parts, other.parts, strict=True)))

    @property
    def parts(self) -> tuple:
        return self.number, self.x, self.y, self.xx, self.xy, self.yy

    def of_features(self, chosen: np.ndarray) -> Moments:
        """The same of some features (indices)."""
        return Moments(
            self.number,
            self.x[chosen],
            self.y,
            self.xx[np.ix_(chosen, chosen)],
            self.xy[chosen],
            self.yy,
        )

    def ridge(self, *penalties: float) -> list[tuple[np.ndarray, np.ndarray]]:
        """Weight (feature, channel) and intercept (channel,) of a ridge regression for each
        penalty."""
        x, y = self.x / self.number, self.y / self.number
        covariance = self.xx - self.number * np.outer(x, x)
        shared = self.xy - self.number * np.outer(x, y)
        unit, out = np.trace(covariance) / len(covariance), []
        for penalty in penalties:
            weight = np.linalg.solve(
                covariance + (penalty * unit + 1e-9) * np.eye(len(covariance)), shared
            )
            out.append((weight, y - x @ weight))
        return out

    def squared_error(self, weight: np.ndarray, intercept: np.ndarray) -> float:
        """Σ(y − xᵀ weight − intercept)² over these bins, all channels."""
        along = (
            (weight * (self.xx @ weight)).sum(0)
            + 2 * (self.x @ weight) * intercept
            + self.number * intercept**2
        )
        across = (weight * self.xy).sum(0) + intercept * self.y
        return float((self.yy - 2 * across + along).sum())


def moments_by_fold(
    features: np.ndarray, behavior: np.ndarray, lags: int, fold: np.ndarray
) -> dict[int, Moments]:
    """Moments of each fold's known bins; behaviour (trial, time, channel) of which a bin's channels
    are known together."""
    found: dict[int, Moments] = {}
    for which in np.unique(fold).tolist():
        own = np.flatnonzero(fold == which)
        for trials in some_trials(features[own], lags):
            x, y = with_past(features[own[trials]], lags), behavior[own[trials]]
            known = np.isfinite(y).all(-1) & np.isfinite(x).all(-1)
            more = Moments.of(x[known].astype(np.float64), y[known].astype(np.float64))
            found[which] = found[which] + more if which in found else more
    return {which: each for which, each in found.items() if each.number}


def best_penalty(folds: list[Moments]) -> tuple[float, float]:
    """Cross-validated over folds, each decoded by the others: the least squared error and its
    penalty."""
    whole = sum(folds[1:], folds[0])
    errors = np.zeros(len(PENALTIES))
    for fold in folds:
        others = whole - fold if len(folds) > 1 else whole
        errors += [fold.squared_error(*regression) for regression in others.ridge(*PENALTIES)]
    best = int(errors.argmin())
    return float(errors[best]), float(PENALTIES[best])


def known_together(behavior: np.ndarray) -> list[np.ndarray]:
    """Channels (indices) that are known in the same bins, group by group."""
    known = np.isfinite(behavior).reshape(-1, behavior.shape[-1])
    group = np.unique(known, axis=1, return_inverse=True)[1].reshape(-1)
    return [np.flatnonzero(group == each) for each in range(group.max() + 1)]


def interleaved(n_trials: int) -> np.ndarray:
    """Folds (trial,) of trials, which are drawn at random as those that are scored."""
    return np.arange(n_trials) % FOLDS


def consecutive(n_trials: int) -> np.ndarray:
    """Folds (trial,) of a continuous recording, where neighbours tell of each other."""
    return np.arange(n_trials) * FOLDS // max(n_trials, 1)


def fit_decoder(
    features: np.ndarray, behavior: np.ndarray, lags: int = 1, fold: np.ndarray | None = None
) -> Decoder:
    """A decoder of behaviour (trial, time, channel) from features (trial, time, feature), both NaN
    where not known.

    Cross-validation over `fold` (trial,), by default `interleaved`, chooses its penalty. Each
    channel is learned where it is known; of one that is known nowhere the decoder says NaN.
    """
    fold = interleaved(len(features)) if fold is None else fold
    channels = behavior.shape[-1]
    weight, intercept = (
        np.full((lags * features.shape[-1], channels), np.nan),
        np.full(channels, np.nan),
    )
    for group in known_together(behavior):
        folds = list(moments_by_fold(features, behavior[..., group], lags, fold).values())
        if folds:
            _, penalty = best_penalty(folds)
            weight[:, group], intercept[group] = sum(folds[1:], folds[0]).ridge(penalty)[0]
    return Decoder(weight, intercept, lags)
