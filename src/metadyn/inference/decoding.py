"""Linear decoding of behaviour from latents or spikes, with past bins: fitted to some windows,
evaluated on others.

Equation: b̂_t = Wᵀ [x_t, x_{t-1}, …] + w_0, W by ridge regression;
r² = 1 − Σ(b − b̂)² / Σ(b − b̄)².
Symbols: b behaviour, x features (latents, or components of spikes), W and w_0 weights and
intercept, b̄ mean over the windows that the model trained on.
Reference: Vermani et al., arXiv:2410.05454, App. D.2. The r² is that of `metadyn.inference.scores`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

PENALTIES = 10.0 ** np.arange(-4, 3)  # of the mean feature variance
FOLDS = 5
MOST_VALUES = 2**24  # lagged features held at once (128 MiB)
# SD of a channel that is constant but for rounding of interpolation: a share of its largest value,
# plus a number in its own unit
RELATIVE = 1e-9
ABSOLUTE = 1e-10


def with_past(
    features: Float[np.ndarray, "trial time feature"], lags: int
) -> Float[np.ndarray, "trial time lagged_feature"]:
    """Each bin and the `lags - 1` before it, side by side; the first bin of a trial stands for
    those before it.

    >>> with_past(np.array([[[1.0], [2.0], [3.0]]]), 2)[0].tolist()
    [[1.0, 1.0], [2.0, 1.0], [3.0, 2.0]]
    """
    n_trials, n_bins, _ = features.shape
    past = np.clip(np.arange(n_bins)[:, None] - np.arange(lags), 0, None)  # (time, lag)
    return features[:, past].reshape(n_trials, n_bins, -1)  # from (trial, time, lag, feature)


def r2(
    true: Float[np.ndarray, "*point channel"],
    predicted: Float[np.ndarray, "*point channel"],
    mean: Float[np.ndarray, " channel"],
) -> float:
    """1 − Σ(y − ŷ)² / Σ(y − ȳ)² over known values, channels together; NaN where no channel varies.

    true, predicted: NaN where not known; mean: ȳ, of the windows that the model trained on.

    >>> true = np.array([[1.0], [3.0], [np.nan]])
    >>> r2(true, np.array([[2.0], [3.0], [0.0]]), np.array([2.0]))
    0.5
    """
    error, total, known_to_vary = sums_of_squares(true, predicted, mean)
    return float(1 - error.sum() / total.sum()) if known_to_vary.any() else float("nan")


def r2_by_channel(
    true: Float[np.ndarray, "*point channel"],
    predicted: Float[np.ndarray, "*point channel"],
    mean: Float[np.ndarray, " channel"],
) -> Float[np.ndarray, " channel"]:
    """The same of each channel, NaN of those that do not vary."""
    error, total, known_to_vary = sums_of_squares(true, predicted, mean)
    unknown = np.full(len(error), np.nan)
    return 1 - np.divide(error, total, out=unknown, where=known_to_vary)


def sums_of_squares(
    true: Float[np.ndarray, "*point channel"],
    predicted: Float[np.ndarray, "*point channel"],
    mean: Float[np.ndarray, " channel"],
) -> tuple[
    Float[np.ndarray, " channel"], Float[np.ndarray, " channel"], Bool[np.ndarray, " channel"]
]:
    """Σ(y − ŷ)² and Σ(y − ȳ)² over the values of each channel that are known and predicted, and
    whether the channel varies in them."""
    known = np.isfinite(true) & np.isfinite(predicted)
    points = tuple(range(true.ndim - 1))
    error = np.where(known, true - predicted, 0.0) ** 2
    total = np.where(known, true - mean, 0.0) ** 2
    return error.sum(points), total.sum(points), varies(np.where(known, true, np.nan))


def varies(values: Float[np.ndarray, "*point channel"]) -> Bool[np.ndarray, " channel"]:
    """Which channels are not constant, but for rounding; NaN is not known, and a channel that is
    known nowhere does not vary."""
    flat = values.reshape(-1, values.shape[-1])  # (point, channel)
    known = np.isfinite(flat)
    number = np.maximum(known.sum(0), 1)
    center = np.where(known, flat, 0.0).sum(0) / number
    sd = np.sqrt((np.where(known, flat - center, 0.0) ** 2).sum(0) / number)
    largest = np.abs(np.where(known, flat, 0.0)).max(0, initial=0.0)
    return sd > RELATIVE * largest + ABSOLUTE


@dataclass(frozen=True)
class Decoder:
    """behaviour ≈ (features of `lags` bins) weight + intercept."""

    weight: Float[np.ndarray, "lagged_feature channel"]
    intercept: Float[np.ndarray, " channel"]
    lags: int = 1

    def __call__(
        self, features: Float[np.ndarray, "trial time feature"]
    ) -> Float[np.ndarray, "trial time channel"]:
        """Behaviour from features; NaN where a bin that it reads is NaN."""
        out = np.empty((*features.shape[:2], len(self.intercept)))
        for trials in trial_blocks(features, self.lags):
            out[trials] = with_past(features[trials], self.lags) @ self.weight + self.intercept
        return out


def trial_blocks(features: Float[np.ndarray, "trial time feature"], lags: int) -> Iterator[slice]:
    """Consecutive trials of which MOST_VALUES lagged features are held at once."""
    size = max(1, MOST_VALUES // (lags * features[0].size))
    return (slice(first, first + size) for first in range(0, len(features), size))


@dataclass(frozen=True)
class Moments:
    """Sums over bins of features x and behaviour y, from which ridge regressions and their squared
    errors follow; sums of several parts add up."""

    number: float
    x: Float[np.ndarray, " feature"]
    y: Float[np.ndarray, " channel"]
    xx: Float[np.ndarray, "feature feature"]
    xy: Float[np.ndarray, "feature channel"]
    yy: Float[np.ndarray, " channel"]

    @staticmethod
    def of(x: Float[np.ndarray, "bin feature"], y: Float[np.ndarray, "bin channel"]) -> Moments:
        """Of features and behaviour of some bins."""
        return Moments(float(len(x)), x.sum(0), y.sum(0), x.T @ x, x.T @ y, (y**2).sum(0))

    def __add__(self, other: Moments) -> Moments:
        return Moments(*(mine + its for mine, its in zip(self.parts, other.parts, strict=True)))

    def __sub__(self, other: Moments) -> Moments:
        return Moments(*(mine - its for mine, its in zip(self.parts, other.parts, strict=True)))

    @property
    def parts(self) -> tuple:
        """The sums in the order of the constructor."""
        return self.number, self.x, self.y, self.xx, self.xy, self.yy

    @staticmethod
    def total(parts: list[Moments]) -> Moments:
        """The sums over all of the parts, of which there is one at least."""
        return sum(parts[1:], parts[0])

    def of_features(self, chosen: Int[np.ndarray, " chosen"]) -> Moments:
        """The same of some of the features, by their indices."""
        xx = self.xx[np.ix_(chosen, chosen)]
        return Moments(self.number, self.x[chosen], self.y, xx, self.xy[chosen], self.yy)

    def ridge(
        self, *penalties: float
    ) -> list[tuple[Float[np.ndarray, "feature channel"], Float[np.ndarray, " channel"]]]:
        """Weight and intercept of a ridge regression for each penalty [mean feature variance]."""
        x = self.x / self.number
        y = self.y / self.number
        covariance = self.xx - self.number * np.outer(x, x)
        cross_covariance = self.xy - self.number * np.outer(x, y)
        n_features = len(covariance)
        unit = np.trace(covariance) / n_features
        found = []
        for penalty in penalties:
            shrinkage = (penalty * unit + 1e-9) * np.eye(n_features)
            weight = np.linalg.solve(covariance + shrinkage, cross_covariance)
            found.append((weight, y - x @ weight))
        return found

    def squared_error(
        self,
        weight: Float[np.ndarray, "feature channel"],
        intercept: Float[np.ndarray, " channel"],
    ) -> float:
        """Σ(y − xᵀ weight − intercept)² over these bins, all channels."""
        # Σ ŷ², then Σ y ŷ, of each channel
        predicted = (
            (weight * (self.xx @ weight)).sum(0)
            + 2 * (self.x @ weight) * intercept
            + self.number * intercept**2
        )
        crossed = (weight * self.xy).sum(0) + intercept * self.y
        return float((self.yy - 2 * crossed + predicted).sum())


def moments_by_fold(
    features: Float[np.ndarray, "trial time feature"],
    behavior: Float[np.ndarray, "trial time channel"],
    lags: int,
    fold: Int[np.ndarray, " trial"],
) -> dict[int, Moments]:
    """Moments of the known bins of each fold that has any; the channels of a bin are known
    together."""
    found: dict[int, Moments] = {}
    for which in np.unique(fold).tolist():
        own = np.flatnonzero(fold == which)
        for trials in trial_blocks(features[own], lags):
            x = with_past(features[own[trials]], lags)
            y = behavior[own[trials]]
            known = np.isfinite(y).all(-1) & np.isfinite(x).all(-1)
            # (trial, time, …) to (bin, …)
            more = Moments.of(x[known].astype(np.float64), y[known].astype(np.float64))
            found[which] = found[which] + more if which in found else more
    return {which: each for which, each in found.items() if each.number}


def best_penalty(folds: list[Moments]) -> tuple[float, float]:
    """Cross-validation over folds, each decoded by the others: the least squared error and its
    penalty."""
    all_folds = Moments.total(folds)
    errors = np.zeros(len(PENALTIES))
    for fold in folds:
        others = all_folds - fold if len(folds) > 1 else all_folds
        errors += [fold.squared_error(*regression) for regression in others.ridge(*PENALTIES)]
    best = int(errors.argmin())
    return float(errors[best]), float(PENALTIES[best])


def channels_known_together(
    behavior: Float[np.ndarray, "trial time channel"],
) -> list[Int[np.ndarray, " chosen"]]:
    """Channels (indices) that are known in the same bins, group by group."""
    known = np.isfinite(behavior).reshape(-1, behavior.shape[-1])  # (bin, channel)
    group = np.unique(known, axis=1, return_inverse=True)[1].reshape(-1)
    return [np.flatnonzero(group == each) for each in range(group.max() + 1)]


def interleaved_folds(n_trials: int) -> Int[np.ndarray, " trial"]:
    """Folds of trials whose scored ones were chosen at random, so that they lie between the others.

    >>> interleaved_folds(7).tolist()
    [0, 1, 2, 3, 4, 0, 1]
    """
    return np.arange(n_trials) % FOLDS


def consecutive_folds(n_trials: int) -> Int[np.ndarray, " trial"]:
    """Folds of windows of a continuous recording, where neighbours resemble each other.

    >>> consecutive_folds(7).tolist()
    [0, 0, 1, 2, 2, 3, 4]
    """
    return np.arange(n_trials) * FOLDS // max(n_trials, 1)


def fit_decoder(
    features: Float[np.ndarray, "trial time feature"],
    behavior: Float[np.ndarray, "trial time channel"],
    lags: int = 1,
    fold: Int[np.ndarray, " trial"] | None = None,
) -> Decoder:
    """A decoder of behaviour from features, both NaN where not known.

    Cross-validation over `fold`, by default `interleaved_folds`, chooses its penalty. Each channel
    is fitted where it is known; one that is known nowhere is decoded as NaN.
    """
    fold = interleaved_folds(len(features)) if fold is None else fold
    n_channels = behavior.shape[-1]
    weight = np.full((lags * features.shape[-1], n_channels), np.nan)
    intercept = np.full(n_channels, np.nan)
    for group in channels_known_together(behavior):
        folds = list(moments_by_fold(features, behavior[..., group], lags, fold).values())
        if not folds:
            continue
        _, penalty = best_penalty(folds)
        weight[:, group], intercept[group] = Moments.total(folds).ridge(penalty)[0]
    return Decoder(weight, intercept, lags)
