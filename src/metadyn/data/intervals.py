"""Sets of times: intervals (interval, 2) [s], disjoint and ascending, as numpy arrays."""

from __future__ import annotations

import numpy as np

from metadyn.data.ticks import LATEST

ALL_TIME = np.array([[-LATEST, LATEST]])
NO_TIME = np.zeros((0, 2))


def union(intervals: np.ndarray) -> np.ndarray:
    """The union of intervals (interval, 2) [s], in any order; those that touch become one."""
    if len(intervals) == 0:
        return NO_TIME
    ordered = intervals[np.argsort(intervals[:, 0], kind="stable")]
    reach = np.maximum.accumulate(ordered[:, 1])
    touch = 1e-9 + np.spacing(np.abs(reach[:-1]))  # a nanosecond, or what float64 cannot tell apart
    first = np.concatenate([[True], ordered[1:, 0] > reach[:-1] + touch])
    last = np.concatenate([first[1:], [True]])
    return np.column_stack([ordered[first, 0], reach[last]])


def complement(intervals: np.ndarray) -> np.ndarray:
    """All time that lies in none of the intervals."""
    edges = np.concatenate([[-LATEST], intervals.ravel(), [LATEST]]).reshape(-1, 2)
    return edges[edges[:, 1] > edges[:, 0]]


def overlapping_pairs(one: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Indices of all pairs of an interval of `one`, in any order, and an interval of `other` that
    share time."""
    first = np.searchsorted(other[:, 1], one[:, 0], side="right")
    n_met = np.maximum(np.searchsorted(other[:, 0], one[:, 1], side="left") - first, 0)
    which = np.repeat(np.arange(len(one)), n_met)
    return which, first[which] + np.arange(len(which)) - np.repeat(np.cumsum(n_met) - n_met, n_met)


def intersection(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The time that lies in both."""
    i, j = overlapping_pairs(one, other)
    return np.column_stack([np.maximum(one[i, 0], other[j, 0]), np.minimum(one[i, 1], other[j, 1])])


def duration(intervals: np.ndarray) -> float:
    """Seconds in all."""
    return float((intervals[:, 1] - intervals[:, 0]).sum())
