"""Linear decoding of behaviour from latents or counts, with past bins, scored on trials the decoder has not seen (App. D.2)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

PENALTIES = 10.0 ** np.arange(-4, 3)  # of the mean feature variance
FOLDS = 5


def with_past(features: np.ndarray, lags: int) -> np.ndarray:
    """Each bin beside the `lags - 1` before it: (trial, time, lags * feature); the first bin stands for those before it."""
    past = np.clip(np.arange(features.shape[1])[:, None] - np.arange(lags), 0, None)
    return features[:, past].reshape(*features.shape[:2], -1)


def r2(true: np.ndarray, predicted: np.ndarray) -> float:
    """1 − Σ(y − ŷ)² / Σ(y − ȳ)² over bins where the truth is known, channels together; ȳ the mean of each channel."""
    known = np.isfinite(true).all(-1) & np.isfinite(predicted).all(-1)
    true, predicted = true[known], predicted[known]
    return float(1 - ((true - predicted) ** 2).sum() / ((true - true.mean(0)) ** 2).sum())


@dataclass(frozen=True)
class Decoder:
    """behaviour ≈ (features − feature_mean) weight + behavior_mean."""

    feature_mean: np.ndarray
    weight: np.ndarray
    behavior_mean: np.ndarray

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """(trial, time, feature) → (trial, time, channel)."""
        return (features - self.feature_mean) @ self.weight + self.behavior_mean


def ridge(features: np.ndarray, behavior: np.ndarray, *penalties: float) -> list[Decoder]:
    """Ridge regressions over all bins where behaviour is known, one a penalty [mean feature variance]."""
    known = np.isfinite(behavior).all(-1) & np.isfinite(features).all(-1)
    x, y = features[known].astype(np.float64), behavior[known].astype(np.float64)
    x_mean, y_mean = x.mean(0), y.mean(0)
    covariance, shared = (x - x_mean).T @ (x - x_mean), (x - x_mean).T @ (y - y_mean)
    shrinks = [penalty * np.trace(covariance) / len(covariance) + 1e-9 for penalty in penalties]
    weights = [np.linalg.solve(covariance + shrink * np.eye(len(covariance)), shared) for shrink in shrinks]
    return [Decoder(x_mean, weight, y_mean) for weight in weights]


def cross_predicted(features: np.ndarray, behavior: np.ndarray, *penalties: float) -> np.ndarray:
    """Predictions of each trial by decoders of the other folds: (penalty, trial, time, channel)."""
    fold = np.arange(len(features)) % FOLDS
    out = np.full((len(penalties), *behavior.shape), np.nan)
    for each in np.unique(fold):
        decoders = ridge(features[fold != each], behavior[fold != each], *penalties)
        out[:, fold == each] = [decoder(features[fold == each]) for decoder in decoders]
    return out


def fit_decoder(features: np.ndarray, behavior: np.ndarray) -> Decoder:
    """A decoder (trial, time, feature) → (trial, time, channel) whose penalty cross-validation over trials chose."""
    scores = [r2(behavior, predicted) for predicted in cross_predicted(features, behavior, *PENALTIES)]
    return ridge(features, behavior, PENALTIES[np.argmax(scores)])[0]


def decoding_r2(features: np.ndarray, behavior: np.ndarray, lags: int) -> float:
    """r² on trials in folds, each decoded by the others, their penalty chosen within those others; NaN below three trials."""
    if len(features) < 3:
        return float("nan")
    past = with_past(features, lags)
    fold = np.arange(len(past)) % FOLDS
    predicted = np.full(behavior.shape, np.nan)
    for each in np.unique(fold):
        predicted[fold == each] = fit_decoder(past[fold != each], behavior[fold != each])(past[fold == each])
    return r2(behavior, predicted)
