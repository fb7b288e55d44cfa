"""r² and bits per spike of predicted counts, and the guess from a unit's last bins.

Equation: bits = Σ [y log(λ / m) − (λ − m)] / (log 2 · Σ y), r² = 1 − Σ(y − λ)² / Σ(y − m)².
Symbols: y count of a unit in a bin, λ its prediction, m the unit's mean count in training.
Reference: bits per spike as in Pei et al., arXiv:2109.04463 (co-smoothing).
"""

from __future__ import annotations

from collections.abc import Mapping
from math import log

import numpy as np
from jaxtyping import Bool, Float, Real
from numpy.typing import ArrayLike

from metadyn.inference.decoding import varies

LAST_BINS = 5  # of which the last value is the mean
LEAST_COUNT = 1e-4  # that is expected of a unit in a bin, so that one spike costs a finite sum

# Over all entries; at each step, over trials and units; of each unit, over trials and bins
AXES: Mapping[str, tuple[int, ...] | None] = {"": None, "_at_step": (0, 2), "_of_unit": (0, 1)}


def bits_per_spike(
    counts: Real[np.ndarray, "trial time unit"],
    expected: Float[np.ndarray, "trial time unit"],
    mean: Float[np.ndarray, "*#trial_time unit"],
    where: Bool[np.ndarray, "trial time unit"],
) -> float:
    """Poisson log-likelihood above that of the mean count, per spike, of the entries `where`; all
    in counts per bin.

    NaN for smoothed counts, which are no spikes, and where there is no spike.

    >>> counts = np.array([[[2.0], [0.0]]])
    >>> round(bits_per_spike(counts, counts, np.ones(1), np.ones((1, 2, 1), bool)), 3)
    1.0
    """
    return float(_per_spike(counts, bits_of_entries(counts, expected, mean) * where, where, None))


def bits_of_entries(
    counts: Real[np.ndarray, "trial time unit"],
    expected: Float[np.ndarray, "trial time unit"],
    mean: Float[np.ndarray, "*#trial_time unit"],
) -> Float[np.ndarray, "trial time unit"]:
    """Poisson log-likelihood of each entry above that of the mean count, in bits; NaN for smoothed
    counts."""
    if not np.array_equal(counts, np.round(counts)):
        return np.full(counts.shape, np.nan)
    expected = np.maximum(expected, LEAST_COUNT)
    mean = np.maximum(np.broadcast_to(mean, counts.shape), LEAST_COUNT)
    return (counts * (np.log(expected) - np.log(mean)) - (expected - mean)) / log(2)


def _per_spike(
    counts: np.ndarray, bits: np.ndarray, where: np.ndarray, axes: tuple[int, ...] | None
) -> np.ndarray:
    """Sum of bits (trial, time, unit) over that of spikes along the axes (None: all); NaN without
    spikes."""
    spikes = np.asarray((counts * where).sum(axes))
    unknown = np.full(spikes.shape, np.nan)
    return np.divide(bits.sum(axes), spikes, out=unknown, where=spikes > 0)


def scores_of_entries(
    counts: Float[np.ndarray, "trial time unit"],
    predictions: dict[str, np.ndarray],
    mean: Float[np.ndarray, " unit"],
    where: Bool[np.ndarray, "trial time unit"],
    names: tuple[str, str],
) -> dict[str, dict[str, np.ndarray]]:
    """r² and bits per spike of predicted counts, over the entries `where`.

    names : of r² and of bits; those at each step end in `_at_step`, those of each unit in
        `_of_unit`.

    Returns
    -------
    By name of the score and of the predictor: a number, (step,) or (unit,).
    """
    deviation = np.where(where, counts - mean, 0.0) ** 2
    unit_varies = varies(np.where(where, counts, np.nan))
    r2_name, bits_name = names
    found: dict[str, dict[str, np.ndarray]] = {}
    for predictor, expected in predictions.items():
        error = np.where(where, counts - expected, 0.0) ** 2
        bits = np.where(where, bits_of_entries(counts, expected, mean), 0.0)
        for suffix, axes in AXES.items():
            known = unit_varies if suffix == "_of_unit" else np.asarray(unit_varies.any())
            unexplained = _ratio(error.sum(axes), deviation.sum(axes), known)
            found.setdefault(r2_name + suffix, {})[predictor] = np.asarray(1 - unexplained)
            per_spike = _per_spike(counts, bits, where, axes)
            found.setdefault(bits_name + suffix, {})[predictor] = per_spike
    return found


def _ratio(value: ArrayLike, divisor: ArrayLike, where: np.ndarray) -> np.ndarray:
    """value / divisor; NaN elsewhere, and where the divisor is 0."""
    value = np.asarray(value)
    divisor = np.asarray(divisor)
    unknown = np.full(divisor.shape, np.nan)
    return np.divide(value, divisor, out=unknown, where=(divisor > 0) & where)


def last_values(
    counts: Real[np.ndarray, "trial time unit"],
    observed: Bool[np.ndarray, "trial time unit_or_1"],
    mean: Float[np.ndarray, " unit"],
    first: int,
) -> Float[np.ndarray, "trial unit"]:
    """Mean count of the observed ones of the LAST_BINS bins before `first` and of one bin of the
    unit's mean. `observed` has one column where all units are observed alike."""
    last = slice(max(0, first - LAST_BINS), first)
    known = observed[:, last]
    return ((counts[:, last] * known).sum(1) + mean) / (known.sum(1) + 1)


def previous_bins(
    counts: Float[np.ndarray, "trial time unit"],
    mean: Float[np.ndarray, " unit"],
    hidden: Bool[np.ndarray, "trial time unit"],
) -> Float[np.ndarray, "trial time unit"]:
    """The same before each bin: mean of the counts not hidden in the LAST_BINS bins before it and
    of one bin of the unit's mean."""
    total = _sum_before(np.where(hidden, 0.0, counts))
    number = _sum_before((~hidden).astype(float))
    return (total + mean) / (number + 1)


def _sum_before(
    values: Float[np.ndarray, "trial time unit"],
) -> Float[np.ndarray, "trial time unit"]:
    """Sum over the LAST_BINS bins before each, as many as there are."""
    # one 0 more than LAST_BINS: the sum over no bin
    padded = np.pad(values, ((0, 0), (LAST_BINS + 1, 0), (0, 0)))
    total = np.cumsum(padded, 1)
    return total[:, LAST_BINS:-1] - total[:, : -LAST_BINS - 1]
