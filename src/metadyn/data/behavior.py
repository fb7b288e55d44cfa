"""Behaviour at the bins: values at bin centres, the mean velocity in each bin, or events per
second."""

from __future__ import annotations

import numpy as np

from metadyn.data.ticks import to_ticks
from metadyn.errors import DataError, as_keywords
from metadyn.records import BehaviorSeries, Session, Windows

# `velocity:Hand` is the displacement of `Hand` over each bin, divided by the bin's width
VELOCITY = "velocity:"
LONGEST_GAP = 5  # sampling periods that interpolation may bridge


def series_name(name: str) -> str:
    """The series to read for a behaviour asked for: `velocity:Hand` needs `Hand`."""
    return name.removeprefix(VELOCITY)


def bin_behavior(session: Session, windows: Windows, name: str) -> np.ndarray:
    """Behaviour (trial, time, channel) at bin centres as `interpolate` gives it; NaN in padding and
    where there is none.

    `velocity:NAME` is the mean velocity of the series NAME in each bin, in its unit per second;
    that of an angle counts turns. Events are given as events per second in each bin. Raises
    DataError where the series was not read, or has no velocity.
    """
    series = _series(session, name)
    bins = np.arange(windows.n_bins.max() + 1)
    edges = windows.start[:, None] + bins * windows.bin_width  # (trial, edge)
    if name.startswith(VELOCITY):
        _check_moves(session, series)
        values = np.diff(_course(series, edges), axis=1) / windows.bin_width
    elif series.between == "events":
        values = (
            _events_in_bins(
                series, to_ticks(windows.start)[:, None] + bins * to_ticks(windows.bin_width)
            )
            / windows.bin_width
        )
    else:
        values = interpolate(series, edges[:, :-1] + windows.bin_width / 2)
    values[bins[:-1] >= windows.n_bins[:, None]] = np.nan
    return values


def binned_period(session: Session, name: str) -> np.ndarray | None:
    """The turn (channel,) of a binned behaviour's angles, inf for other channels; None where there
    is no angle."""
    period = np.asarray(_series(session, name).period)
    return None if name.startswith(VELOCITY) or not np.isfinite(period).any() else period


def _series(session: Session, name: str) -> BehaviorSeries:
    if name in session.behavior:
        return session.behavior[name]
    found = (
        f"read: {', '.join(session.behavior) or 'none'}; in the file: "
        f"{', '.join(session.behavior_names) or 'none'}"
    )
    remedy = f"read_session(..., behavior=({name!r},))"
    raise DataError(
        "the behaviour was not read", file=session.source.uri, item=name, found=found, remedy=remedy
    )


def _check_moves(session: Session, series: BehaviorSeries) -> None:
    if series.between == "linear":
        return
    found = (
        "events"
        if series.between == "events"
        else "few whole numbers, each of which holds until the next"
    )
    remedy = as_keywords({"behavior": series_name(series.name)})
    raise DataError(
        "what does not change steadily has no velocity",
        file=session.source.uri,
        item=series.name,
        found=found,
        remedy=remedy,
    )


def interpolate(series: BehaviorSeries, times: np.ndarray) -> np.ndarray:
    """Values (..., channel) at `times` (...), channel by channel, from the samples at which that
    channel is known.

    A `linear` or `nearest` series is NaN outside its samples and inside its long gaps; an angle
    goes the shorter way round from sample to sample, and stays in the range of its samples. A
    `held` one is NaN before its first sample alone.
    """
    values = _course(series, times)
    for channel, period in enumerate(_periods(series)):
        if np.isfinite(period):
            lowest = _lowest(series.values[:, channel], period)
            values[..., channel] = lowest + (values[..., channel] - lowest) % period
    return values


def _course(series: BehaviorSeries, times: np.ndarray) -> np.ndarray:
    """As `interpolate`, but angles go on counting where they come round."""
    longest = LONGEST_GAP * np.median(np.diff(series.times))
    way = {"linear": _between_samples, "nearest": _nearest_sample, "held": _last_sample}[
        series.between
    ]
    known = np.isfinite(series.values)
    out = np.full((*times.shape, series.values.shape[1]), np.nan)
    for channels in _known_together(known):
        of_all = known[:, channels[0]]
        own, values = (
            each if of_all.all() else each[of_all]
            for each in (series.times, series.values[:, channels])
        )
        if series.between == "linear":
            values = _unwrapped(values, _periods(series)[channels])
        if len(own) > (series.between != "held"):  # between two samples, or behind one
            out[..., channels] = way(own, values, times, longest)
    return out


def _known_together(known: np.ndarray) -> list[np.ndarray]:
    """The channels that are known at all samples, and each of the others alone."""
    always = known.all(axis=0)
    return [np.flatnonzero(always)] * bool(always.any()) + [
        np.array([channel]) for channel in np.flatnonzero(~always)
    ]


def _unwrapped(values: np.ndarray, period: np.ndarray) -> np.ndarray:
    """Values (sample, channel) in which each channel that is an angle counts its turns."""
    if not np.isfinite(period).any():
        return values
    return np.stack(
        [
            np.unwrap(own, period=turn) if np.isfinite(turn) else own
            for own, turn in zip(values.T, period, strict=True)
        ],
        -1,
    )


def _periods(series: BehaviorSeries) -> np.ndarray:
    return np.broadcast_to(series.period, series.values.shape[1])


def _lowest(angle: np.ndarray, period: float) -> float:
    """Where the range [lowest, lowest + period) of an angle's samples begins: 0, minus half a turn,
    or the least of them."""
    least, most = np.nanmin(angle), np.nanmax(angle)
    rounding = 1e-6 * period
    for lowest in (0.0, -period / 2):
        if least >= lowest - rounding and most <= lowest + period + rounding:
            return lowest
    return float(least)


def _between_samples(
    own: np.ndarray, values: np.ndarray, times: np.ndarray, longest: float
) -> np.ndarray:
    right = _right(own, times)
    share = ((times - own[right - 1]) / (own[right] - own[right - 1]))[..., None]
    found = values[right - 1] * (1 - share) + values[right] * share
    found[_unknown(own, times, right, longest)] = np.nan
    return found


def _nearest_sample(
    own: np.ndarray, values: np.ndarray, times: np.ndarray, longest: float
) -> np.ndarray:
    right = _right(own, times)
    found = values[right - (times - own[right - 1] < own[right] - times)]
    found[_unknown(own, times, right, longest)] = np.nan
    return found


def _last_sample(own: np.ndarray, values: np.ndarray, times: np.ndarray, _: float) -> np.ndarray:
    last = np.searchsorted(own, times, side="right") - 1
    found = values[np.maximum(last, 0)]
    found[last < 0] = np.nan
    return found


def _right(own: np.ndarray, times: np.ndarray) -> np.ndarray:
    """The first sample behind each time, of those that have one before them."""
    return np.clip(np.searchsorted(own, times, side="right"), 1, len(own) - 1)


def _unknown(own: np.ndarray, times: np.ndarray, right: np.ndarray, longest: float) -> np.ndarray:
    before, after = own[right - 1], own[right]
    rounding = 1e-9 + np.spacing(np.abs(times))
    outside = (times < own[0] - rounding) | (times > own[-1] + rounding)
    on_sample = (np.abs(times - before) < rounding) | (np.abs(after - times) < rounding)
    return outside | ((after - before > longest) & ~on_sample)


def _events_in_bins(series: BehaviorSeries, edges: np.ndarray) -> np.ndarray:
    """How many events of each kind (trial, time, channel) lie between neighbouring edges (trial,
    edge) in ticks, half-open."""
    kinds = [to_ticks(series.times[own > 0]) for own in series.values.T]
    return np.stack(
        [np.diff(np.searchsorted(own, edges), axis=1) for own in kinds], axis=-1
    ).astype(np.float64)
