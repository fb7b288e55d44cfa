"""Behaviour at the bins: values at bin centres, or the mean velocity in each bin."""

from __future__ import annotations

import numpy as np

from metadyn.errors import DataError
from metadyn.records import BehaviorSeries, Session, Windows

VELOCITY = "velocity:"  # `velocity:Hand` is the displacement of `Hand` over each bin, divided by the bin's width
LONGEST_GAP = 5  # sampling periods that linear interpolation may bridge


def series_name(name: str) -> str:
    """The series to read for a behaviour asked for: `velocity:Hand` needs `Hand`."""
    return name.removeprefix(VELOCITY)


def bin_behavior(session: Session, windows: Windows, name: str) -> np.ndarray:
    """Behaviour (trial, time, channel) at bin centres by linear interpolation; NaN in padding and where there is none.

    `velocity:NAME` is the mean velocity of the series NAME in each bin, in its unit per second.
    """
    series = _series(session, name)
    bins = np.arange(windows.n_bins.max())
    padding = bins >= windows.n_bins[:, None]
    left = windows.start[:, None] + bins * windows.bin_width
    if name.startswith(VELOCITY):
        values = (interpolate(series, left + windows.bin_width) - interpolate(series, left)) / windows.bin_width
    else:
        values = interpolate(series, left + windows.bin_width / 2)
    values[padding] = np.nan
    return values


def _series(session: Session, name: str) -> BehaviorSeries:
    if name in session.behavior:
        return session.behavior[name]
    found = f"read: {', '.join(session.behavior) or 'none'}; in the file: {', '.join(session.behavior_names) or 'none'}"
    remedy = f"read_session(..., behavior=({name!r},))"
    raise DataError("the behaviour was not read", file=session.source.uri, item=name, found=found, remedy=remedy)


def interpolate(series: BehaviorSeries, times: np.ndarray) -> np.ndarray:
    """Values (..., channel) at `times` (...), linear between samples; NaN outside the series and inside its long gaps."""
    right = np.clip(np.searchsorted(series.times, times, side="right"), 1, len(series.times) - 1)
    before, after = series.times[right - 1], series.times[right]
    share = ((times - before) / (after - before))[..., None]
    values = series.values[right - 1] * (1 - share) + series.values[right] * share
    values[_unknown(series, times, before, after)] = np.nan
    return values


def _unknown(series, times, before, after) -> np.ndarray:
    rounding = 1e-9 + np.spacing(np.abs(times))
    outside = (times < series.times[0] - rounding) | (times > series.times[-1] + rounding)
    in_gap = after - before > LONGEST_GAP * np.median(np.diff(series.times))
    on_sample = (times - before < rounding) | (after - times < rounding)
    return outside | (in_gap & ~on_sample)
