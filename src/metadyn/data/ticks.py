"""Seconds at the border, integers within: times become whole nanoseconds once, and every comparison
of times is exact."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

Numbers: TypeAlias = np.ndarray | np.number | float | int | Sequence[Any]

TICKS_PER_SECOND = 1_000_000_000  # no sampling clock is finer, and int64 still spans centuries
LATEST = 4e9  # [s] from zero, 127 years: differences of such times still fit in int64


def to_ticks(seconds: Numbers) -> np.ndarray:
    """Seconds as the nearest whole nanosecond, int64, of the same shape.

    >>> int(to_ticks(0.3) - 3 * to_ticks(0.1))
    0
    """
    ticks = np.rint(np.asarray(seconds, dtype=np.float64) * TICKS_PER_SECOND)
    return np.asarray(ticks, dtype=np.int64)


def to_seconds(ticks: Numbers) -> np.ndarray:
    """Whole nanoseconds as seconds, float64; `to_ticks(to_seconds(t)) == t` up to 104 days from
    zero."""
    return np.asarray(np.asarray(ticks, dtype=np.int64) / TICKS_PER_SECOND)


def rounding(ticks: Numbers) -> np.ndarray:
    """What float64 seconds cannot tell apart at such times, in ticks: 0 up to 48 days from zero,
    about 120 at 1e9 s."""
    nanoseconds = np.abs(to_seconds(ticks)) * TICKS_PER_SECOND
    return np.asarray(np.spacing(nanoseconds), dtype=np.int64)


def within(starts: np.ndarray, stops: np.ndarray, intervals: np.ndarray) -> np.ndarray:
    """Whether each [start, stop) lies inside one of the `intervals` (interval, 2), disjoint and
    ascending; all in ticks."""
    if len(intervals) == 0:
        return np.zeros(np.shape(starts), dtype=bool)
    last = np.searchsorted(intervals[:, 0], starts, side="right") - 1
    return np.asarray((last >= 0) & (stops <= intervals[np.maximum(last, 0), 1]))
