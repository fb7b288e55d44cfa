"""Which trials to train on, to choose by and to test on."""

from __future__ import annotations

import numpy as np

from metadyn.errors import DataError


def split_trials(n_trials: int, parts=(0.7, 0.15, 0.15), seed: int = 0):
    """Ascending indices (train, validation, test) of a random split, disjoint and complete; the same for the same seed.

    `parts` are three fractions that sum to 1, or three counts that sum to `n_trials`. No part but 0 is left empty.
    """
    counts = _counts(n_trials, np.asarray(parts))
    shuffled = np.random.default_rng(seed).permutation(n_trials)
    train, validation, test = np.split(shuffled, np.cumsum(counts)[:2])
    return np.sort(train), np.sort(validation), np.sort(test)


def _counts(n_trials: int, parts: np.ndarray) -> np.ndarray:
    if parts.shape != (3,) or np.any(parts < 0):
        raise DataError("a split has three parts, none negative", found=str(parts.tolist()), remedy="e.g. (0.7, 0.15, 0.15)")
    if np.issubdtype(parts.dtype, np.integer) and parts.sum() == n_trials:
        return parts
    if not np.isclose(parts.sum(), 1):
        found = f"{parts.tolist()}, which sum to {parts.sum():g}, for {n_trials} trials"
        raise DataError(
            "the parts of a split do not fit", found=found, remedy="fractions that sum to 1, or counts of all trials"
        )
    counts = np.where(parts > 0, np.maximum(np.floor(parts * n_trials + 1e-9), 1), 0).astype(np.int64)
    counts[np.argmax(parts)] += n_trials - counts.sum()
    if counts.min() < 0 or np.any((counts == 0) & (parts > 0)):
        raise DataError(
            "too few trials to split", found=f"{n_trials} trials", remedy="fewer parts, e.g. (1, 0, 0), or more trials"
        )
    return counts
