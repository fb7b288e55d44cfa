"""The meaning of the numbers of a behaviour series.

Their unit, whether they are angles, and what lies between two samples.
"""

from __future__ import annotations

import re
import warnings

import numpy as np
from pynwb import TimeSeries
from pynwb.behavior import CompassDirection
from pynwb.image import IndexSeries

from metadyn.errors import DataError
from metadyn.nwb.sampling import REMEDY, is_regular, one_clock
from metadyn.records import BehaviorSeries

RADIANS = 2 * np.pi  # a turn
DEGREES = 360.0  # a turn
TURNS = dict.fromkeys(("radians", "radian", "rad", "rads"), RADIANS)
TURNS |= dict.fromkeys(("degrees", "degree", "deg", "degs", "°"), DEGREES)
NAMES = {RADIANS: "radians", DEGREES: "degrees"}
ANGLE_NAMES = re.compile("heading|direction|azimuth|yaw|angle|orientation|bearing|theta|phase")
ROUNDING = 1e-3  # of a turn
MOST_LEVELS = 20  # whole numbers that a series of states takes at most
CONTINUITY = {"step": "held", "continuous": "linear"}  # what a series may say of itself


def trace(
    series: TimeSeries, name: str, times: np.ndarray, stored: np.ndarray, file: str
) -> BehaviorSeries:
    """A series of numbers, converted to its unit.

    Parameters
    ----------
    name : that the user asked for; `file` is the file's name in messages.
    times, stored : (sample,) [s] and (sample, channel), as `metadyn.nwb.sampling.samples` reads
        them.

    Returns
    -------
    Series without the samples that are NaN in every channel.

    Raises
    ------
    DataError : fewer than two samples are finite, or the clock jumps back.
    """
    between = _between(series, times, stored)
    order = one_clock(times, keep_last=between == "held", item=series.name, file=file)
    values = _converted(series, stored[order])
    is_known = np.isfinite(values)
    has_value = is_known.any(axis=1)  # (sample,)
    if has_value.sum() < 2:
        raise DataError(
            "the behaviour series has no two finite samples",
            file=file,
            item=name,
            found=f"{len(values)} samples, {has_value.sum()} with a finite value; "
            f"conversion {series.conversion:g}",
            remedy=REMEDY,
        )
    times = times[order][has_value]
    values = np.where(is_known, values, np.nan)[has_value]
    smooth = between == "linear"
    turns = [_turn(series, channel, own, smooth) for channel, own in enumerate(values.T)]
    period = np.array(turns)
    unit = _unit(series, period, file)
    _warn_of_constant_channels(values, series, file)
    return BehaviorSeries(name, times, values, unit, between, period)


def _converted(series: TimeSeries, stored: np.ndarray) -> np.ndarray:
    """stored · conversion + offset, those of the series that holds the data."""
    owner = series
    while isinstance(owner.fields["data"], TimeSeries):
        owner = owner.fields["data"]
    return stored.astype(np.float64) * owner.conversion + (owner.offset or 0.0)


def _warn_of_constant_channels(values: np.ndarray, series: TimeSeries, file: str) -> None:
    """Warn of channels of (sample, channel) that are NaN throughout, or never change."""
    is_known = np.isfinite(values)
    is_empty = ~is_known.any(axis=0)
    least = np.min(values, axis=0, where=is_known, initial=np.inf)
    most = np.max(values, axis=0, where=is_known, initial=-np.inf)
    is_constant = ~is_empty & (least == most)
    for which, problem in (
        (is_empty, "NaN throughout"),
        (is_constant, "constant: it tells nothing"),
    ):
        if which.any():
            numbers = ", ".join(map(str, np.flatnonzero(which)))
            channels = "" if len(which) == 1 else f" channel {numbers}"
            warnings.warn(f"{file}: {series.name}{channels} is {problem}", stacklevel=6)


def _between(series: TimeSeries, times: np.ndarray, stored: np.ndarray) -> str:
    """What a series does between two samples: "linear", "held" or "nearest".

    Few whole numbers are states. They hold until the next sample where a sample was taken whenever
    the state changed (at uneven times); a clock's samples hold half a step each way.
    """
    if series.continuity in CONTINUITY:
        return CONTINUITY[series.continuity]
    if isinstance(series, IndexSeries):
        return "held"
    regular = is_regular(times)
    if not _are_states(stored, regular):
        return "linear"
    return "nearest" if regular else "held"


def _are_states(stored: np.ndarray, regular: bool) -> bool:
    """Whether values (sample, channel) are few whole numbers, or truth values.

    Of measured ones, floats or samples of a clock, each must occur four times on average.
    """
    if stored.dtype.kind == "b":
        return True
    known = stored[np.isfinite(stored)]
    if len(np.unique(known[:10_000])) > MOST_LEVELS or (known != np.rint(known)).any():
        return False
    n_levels = len(np.unique(known))
    is_measured = stored.dtype.kind == "f" or regular
    return n_levels <= MOST_LEVELS and (not is_measured or 4 * n_levels <= len(stored))


def _turn(series: TimeSeries, channel: int, values: np.ndarray, smooth: bool) -> float:
    """The turn after which a channel comes round, in its unit.

    inf where it is no angle, or counts its turns.

    Parameters
    ----------
    values : (sample,) of the channel, NaN where unknown.
    smooth : whether the series goes on between samples, not a series of states.
    """
    known = values[np.isfinite(values)]
    if len(known) < 2:
        return np.inf
    is_direction = isinstance(series.parent, CompassDirection)
    is_named = is_direction or bool(ANGLE_NAMES.search(series.name.lower()))
    seen = _turn_seen(known, is_named) if smooth else np.inf
    if np.isfinite(seen):
        return seen
    span = np.ptp(known)
    # A direction without a unit that is known is in radians, as NWB asks, if it fits
    fallback = RADIANS if is_direction and span <= RADIANS * (1 + ROUNDING) else np.inf
    turn = TURNS.get(_word(_unit_of(series, channel)), fallback)
    if span > turn * (1 + ROUNDING):
        return np.inf
    comes_round = np.abs(np.diff(known)).max() > turn / 2
    return turn if is_direction or comes_round else np.inf


def _turn_seen(known: np.ndarray, named: bool) -> float:
    """A turn that the values (sample,) of a channel show, in their unit; inf where they do not.

    They go all through 0 to 2π (or ±π, 0 to 360, ±180), and jump by more than half of it, twice at
    least. Where no name says that they are angles (`named`), jumps must be nearly a turn, and all
    other steps small.
    """
    step = np.abs(np.diff(known))
    least = known.min()
    most = known.max()
    for turn in (RADIANS, DEGREES):
        middle = np.abs(known - (least + most) / 2) < turn / 4
        fills = 0.9 * turn < most - least <= (1 + ROUNDING) * turn and middle.mean() > 0.1
        begins = min(abs(least), abs(least + turn / 2)) < 0.1 * turn
        jumps = step > (0.5 if named else 0.75) * turn
        if fills and begins and jumps.sum() > 1 and (named or (jumps | (step < 0.25 * turn)).all()):
            return turn
    return np.inf


def _unit_of(series: TimeSeries, channel: int) -> str:
    """The unit of a channel: that of its feature where a series has features, else the series'."""
    own = getattr(series, "feature_units", None)
    return str(series.unit) if own is None or channel >= len(own) else str(own[channel])


def _word(unit: str) -> str:
    """The unit without case, brackets and words around it.

    >>> _word("angle (rad)")
    'rad'
    """
    words = [
        word for word in re.findall(r"[a-z°/]+", unit.lower()) if word not in ("angle", "in", "of")
    ]
    return words[0] if len(words) == 1 else ""


def _unit(series: TimeSeries, period: np.ndarray, file: str) -> str:
    """The unit that the values are in, or several, with commas.

    An angle's is the one that its turn shows, with a warning where the file says otherwise.

    Parameters
    ----------
    period : (channel,) the turn of each channel, inf for none.
    """
    units = [_unit_of(series, channel) for channel in range(len(period))]
    for channel, turn in enumerate(period):
        if np.isfinite(turn) and TURNS.get(_word(units[channel])) != turn:
            said, is_ = units[channel], NAMES[turn]
            warnings.warn(
                f"{file}: {series.name} comes round as an angle in {is_}, not {said!r}; taken as "
                f"{is_}",
                stacklevel=6,
            )
            units[channel] = is_
    return ", ".join(dict.fromkeys(units))


def interval_states(name: str, times: np.ndarray, marks: np.ndarray, file: str) -> BehaviorSeries:
    """An IntervalSeries as states (sample, kind), 1 inside intervals of a kind and 0 outside.

    +k begins an interval of kind k and −k ends it, at times in any order; a kind whose first mark
    ends one has begun inside. Kinds ascend.

    Parameters
    ----------
    times, marks : (sample,) [s] and (sample,).

    Raises
    ------
    DataError : all marks are 0.
    """
    order = np.argsort(times, kind="stable")
    times = times[order]
    marks = marks[order]
    kinds = np.unique(np.abs(marks[marks != 0]))
    if len(kinds) == 0:
        found = f"{len(marks)} marks, all 0"
        raise DataError(
            "the series marks no interval", file=file, item=name, found=found, remedy=REMEDY
        )
    running = np.stack([_running(marks, kind) for kind in kinds], axis=1)  # (1 + sample, kind)
    if endless := int((running[-1] > 0).sum()):
        warnings.warn(
            f"{file}: {name} ends inside an interval of {endless} kinds: taken as going on",
            stacklevel=5,
        )
    return BehaviorSeries(
        name, np.r_[-np.inf, times], (running > 0).astype(np.float64), "state", between="held"
    )


def _running(marks: np.ndarray, kind: np.number) -> np.ndarray:
    """How many intervals of a kind run before the first mark and from each mark on, (1 + sample,).

    Marks (sample,) in order of time; an end without a beginning ends nothing.
    """
    change = np.where(np.abs(marks) == kind, np.sign(marks), 0).astype(np.int64)
    total = np.cumsum(np.r_[change[change != 0][0] < 0, change])
    return total - np.minimum(np.minimum.accumulate(total), 0)
