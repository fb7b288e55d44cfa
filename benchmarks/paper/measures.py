"""r² of reconstructions and forecasts, embeddings against parameters, and what forecast intervals
cover (paper, D.2)."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from scipy.stats import spearmanr

from benchmarks.paper.sets import Sample
from metadyn.inference.forecast import forecast
from metadyn.inference.infer import infer
from metadyn.model.trained import TrainedModel
from metadyn.records import TrialCounts

FLOOR = -10.0  # what exploded counts as this in means over sessions, so that a mean says something
LEVELS = (50, 80, 90, 95)  # %, of forecast intervals


def bounded(r2: float) -> float:
    """r² no lower than FLOOR, which also stands for what is not finite."""
    return max(r2, FLOOR) if np.isfinite(r2) else FLOOR


def r2(target: np.ndarray, predicted: np.ndarray, mean: np.ndarray) -> float:
    """1 − Σ(y − ŷ)² / Σ(y − ȳ)² over all entries."""
    with np.errstate(over="ignore", invalid="ignore"):
        return float(1 - ((target - predicted) ** 2).sum() / ((target - mean) ** 2).sum())


def trial_mean(target: np.ndarray) -> np.ndarray:
    """ȳ (trial, 1, unit): each unit's mean over its whole trial."""
    return target.astype(np.float64).mean(1, keepdims=True)


def forecast_r2(
    target: np.ndarray, paths: dict[int, np.ndarray], horizons: tuple[int, ...]
) -> dict[str, float]:
    """k-step r², averaged over contexts: "k20" cumulative to 20 bins ahead, "at_k20" at 20 bins
    ahead.

    target (trial, time, unit): what is forecast, whole trials; paths: for each last context bin the
    bins that follow it, (trial, step, unit).
    """
    mean = trial_mean(target)
    found: dict[str, list[float]] = {}
    for context, path in paths.items():
        ahead = target[:, context : context + path.shape[1]]
        for k in horizons:
            found.setdefault(f"k{k}", []).append(
                r2(ahead[:, :k], path[:, :k].astype(np.float64), mean)
            )
            found.setdefault(f"at_k{k}", []).append(
                r2(ahead[:, k - 1 : k], path[:, k - 1 : k].astype(np.float64), mean)
            )
    return {name: float(np.mean(values)) for name, values in found.items()}


def squares(target: np.ndarray, paths: dict[int, np.ndarray], k: int) -> tuple[float, float]:
    """Σ(y − ŷ)² and Σ(y − ȳ)² of forecasts up to k bins ahead, all contexts together; arguments as
    of `forecast_r2`."""
    mean, residual, total = trial_mean(target), 0.0, 0.0
    for context, path in paths.items():
        ahead = target[:, context : context + k]
        residual += float(((ahead - path[:, :k].astype(np.float64)) ** 2).sum())
        total += float(((ahead - mean) ** 2).sum())
    return residual, total


def pooled_r2(sums: list[tuple[float, float]]) -> float:
    """r² over sessions together, from their `squares`: a session counts as much as its rates
    move."""
    residual, total = np.sum(sums, axis=0)
    return float(1 - residual / total)


def predicted(
    trained: TrainedModel, counts: TrialCounts, contexts: tuple[int, ...], steps: int
) -> dict[int, np.ndarray]:
    """Forecasts of means from each context (trial, step, unit), in units of the observations."""
    return {
        context: forecast(trained, counts, context=context, steps=steps)["rate_mean"].values
        * trained.bin_width
        for context in contexts
    }


def model_r2(
    trained: TrainedModel, test: TrialCounts, target: np.ndarray, contexts, horizons
) -> dict[str, float]:
    """Reconstruction of whole trials ("rec") and forecasts of a model against `target` (trial,
    time, unit)."""
    reconstruction = infer(trained, test)["rate_mean"].values.astype(np.float64) * trained.bin_width
    paths = predicted(trained, test, contexts, max(horizons))
    return {
        "rec": r2(target, reconstruction, trial_mean(target)),
        **forecast_r2(target, paths, horizons),
    }


def ceiling_r2(sample: Sample, target: np.ndarray, contexts, horizons) -> dict[str, float]:
    """The same of the truth: its means, and the true dynamics without noise from the true state."""
    paths = {context: sample.ahead(context, max(horizons)) for context in contexts}
    return {
        "rec": r2(target, sample.means, trial_mean(target)),
        **forecast_r2(target, paths, horizons),
    }


def target_of(sample: Sample) -> np.ndarray:
    """What predictions are held against: noisy observations, or the true rates of Poisson units
    [counts a bin]."""
    return sample.means if hasattr(sample.truth, "counts") else sample.test.counts


def embedding_of(trained: TrainedModel, counts: TrialCounts) -> tuple[np.ndarray, np.ndarray]:
    """Mean and SD of the session's q(e): (embedding,) each."""
    found = infer(trained, counts)
    return found["session_embedding_mean"].values, found["session_embedding_sd"].values


def abs_spearman(embeddings: np.ndarray, parameter: np.ndarray) -> float:
    """|Spearman| of one-dimensional embeddings (session,) with a parameter."""
    return abs(float(spearmanr(embeddings, parameter).statistic))


def spearman_from_e0(embeddings: np.ndarray, parameter: np.ndarray) -> float:
    """The largest Spearman of |e − e0| with a parameter over all e0; e0 far off gives that of e, up
    to sign.

    The processes of |e − e0| change only where e0 passes the middle of two embeddings: one e0
    between each two such suffices.
    """
    middles = np.unique([(one + other) / 2 for one, other in combinations(embeddings, 2)])
    width = np.ptp(embeddings) + 1.0
    places = np.concatenate(
        [[middles[0] - width], (middles[1:] + middles[:-1]) / 2, [middles[-1] + width]]
    )
    return max(float(spearmanr(np.abs(embeddings - e0), parameter).statistic) for e0 in places)


def covered(samples: np.ndarray, target: np.ndarray) -> dict[str, float]:
    """Share [%] of target entries inside the central intervals of samples (sample, …), one a
    level."""
    tails = [(1 - level / 100) / 2 for level in LEVELS]
    low = np.quantile(samples, tails, axis=0)
    high = np.quantile(samples, [1 - tail for tail in tails], axis=0)
    inside = (low <= target) & (target <= high)
    return {
        str(level): 100 * float(values.mean()) for level, values in zip(LEVELS, inside, strict=True)
    }


def interval_coverage(
    trained: TrainedModel,
    sample: Sample,
    contexts: tuple[int, ...],
    steps: int,
    seed: int,
    n_samples: int = 200,
) -> dict[str, dict[str, float]]:
    """Coverage [%] of forecast intervals over test trials and bins ahead, averaged over contexts,
    by level.

    "observations": of noisy observations, R drawn too; "means": of the expected observations of the
    true noisy path.
    """
    row = trained.index(sample.key)
    variance = trained.module.likelihood.log_var[row, : sample.test.n_units].exp().numpy(force=True)
    rng, found = np.random.default_rng(seed), {"observations": [], "means": []}
    for context in contexts:
        ahead = forecast(
            trained, sample.test, context=context, steps=steps, samples=n_samples, seed=seed
        )
        paths = ahead["rate_samples"].values * trained.bin_width
        window = slice(context, context + steps)
        found["means"].append(covered(paths, sample.means[:, window]))
        noisy = paths + np.sqrt(variance) * rng.standard_normal(paths.shape, np.float32)
        found["observations"].append(covered(noisy, sample.test.counts[:, window]))
    return {
        name: {level: float(np.mean([each[level] for each in values])) for level in values[0]}
        for name, values in found.items()
    }
