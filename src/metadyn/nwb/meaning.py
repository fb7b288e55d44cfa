"""What the numbers of a behaviour series are: their unit, whether they are angles, and what lies
between two samples."""

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

RADIANS, DEGREES = 2 * np.pi, 360.0  # a turn
TURNS = dict.fromkeys(("radians", "radian", "rad", "rads"), RADIANS)
TURNS |= dict.fromkeys(("degrees", "degree", "deg", "degs", "°"), DEGREES)
NAMES = {RADIANS: "radians", DEGREES: "degrees"}
ANGLE_NAMES = re.compile(
    "heading|direction|azimuth|yaw|angle|orientation|bearing|theta|phase"
)  # names of angles
ROUNDING = 1e-3  # of a turn
MOST_LEVELS = 20  # whole numbers that a series of states takes at most
CONTINUITY = {"step": "held", "continuous": "linear"}  # what a series may say of itself


def trace(
    series: TimeSeries, name: str, times: np.ndarray, stored: np.ndarray, file
) -> BehaviorSeries:
    """A series of numbers (sample, channel) as stored, converted to its unit. Raises DataError
    where all are NaN."""
    between = _between(series, times, stored)
    order = one_clock(times, keep_last=between == "held", item=series.name, file=file)
    values = _converted(series, stored[order])
    known = np.isfinite(values)
    if known.any(axis=1).sum() < 2:
        found = (
            f"{len(values)} samples, {known.any(axis=1).sum()} with a finite value; conversion "
            f"{series.conversion:g}"
        )
        raise DataError(
            "the behaviour series has no two finite samples",
            file=file,
            item=name,
            found=found,
            remedy=REMEDY,
        )
    times, values = (
        times[order][known.any(axis=1)],
        np.where(known, values, np.nan)[known.any(axis=1)],
    )
    smooth = between == "linear"
    period = np.array(
        [_turn(series, channel, values[:, channel], smooth) for channel in range(values.shape[1])]
    )
    unit = _unit(series, period, file)
    _say_what_is_still(values, series, file)
    return BehaviorSeries(name, times, values, unit, between, period)


def _converted(series: TimeSeries, stored: np.ndarray) -> np.ndarray:
    """stored · conversion + offset, those of the series that holds the data."""
    owner = series
    while isinstance(owner.fields["data"], TimeSeries):
        owner = owner.fields["data"]
    return stored.astype(np.float64) * owner.conversion + (owner.offset or 0.0)


def _say_what_is_still(values: np.ndarray, series: TimeSeries, file) -> None:
    known = np.isfinite(values)
    empty = ~known.any(axis=0)
    least, most = (
        pick(values, axis=0, where=known, initial=edge)
        for pick, edge in ((np.min, np.inf), (np.max, -np.inf))
    )
    still = ~empty & (least == most)
    for which, what in ((empty, "NaN throughout"), (still, "constant: it tells nothing")):
        if which.any():
            channels = (
                "" if len(which) == 1 else f" channel {', '.join(map(str, np.flatnonzero(which)))}"
            )
            warnings.warn(f"{file}: {series.name}{channels} is {what}", stacklevel=6)


def _between(series: TimeSeries, times: np.ndarray, stored: np.ndarray) -> str:
    """Few whole numbers are states, which hold: until the next sample where samples were taken when
    the state changed."""
    if series.continuity in CONTINUITY:
        return CONTINUITY[series.continuity]
    if isinstance(series, IndexSeries):
        return "held"
    regular = is_regular(times)
    if not _are_states(stored, regular):
        return "linear"
    return "nearest" if regular else "held"


def _are_states(stored: np.ndarray, regular: bool) -> bool:
    if stored.dtype.kind == "b":
        return True
    known = stored[np.isfinite(stored)]
    if len(np.unique(known[:10_000])) > MOST_LEVELS or (known != np.rint(known)).any():
        return False
    levels, measured = len(np.unique(known)), stored.dtype.kind == "f" or regular
    return levels <= MOST_LEVELS and (not measured or 4 * levels <= len(stored))


def _turn(series: TimeSeries, channel: int, values: np.ndarray, smooth: bool) -> float:
    """The turn after which a channel comes round, in its unit; inf where it is no angle or counts
    its turns."""
    known = values[np.isfinite(values)]
    if len(known) < 2:
        return np.inf
    direction = isinstance(series.parent, CompassDirection)
    if smooth and np.isfinite(
        seen := _turn_seen(known, named=direction or bool(ANGLE_NAMES.search(series.name.lower())))
    ):
        return seen
    span = np.ptp(known)
    turn = TURNS.get(
        _word(_unit_of(series, channel)),
        RADIANS if direction and span <= RADIANS * (1 + ROUNDING) else np.inf,
    )
    if span > turn * (1 + ROUNDING):
        return np.inf
    return turn if direction or np.abs(np.diff(known)).max() > turn / 2 else np.inf


def _turn_seen(known: np.ndarray, named: bool) -> float:
    """A turn by the values: they go all through 0 to 2π (or ±π, 0 to 360, ±180), and jump more than
    half of it, twice at least.

    Where no name says that they are angles, jumps must be nearly a turn, and all other steps small.
    """
    step, least, most = np.abs(np.diff(known)), known.min(), known.max()
    for turn in (RADIANS, DEGREES):
        middle = np.abs(known - (least + most) / 2) < turn / 4
        fills = 0.9 * turn < most - least <= (1 + ROUNDING) * turn and middle.mean() > 0.1
        begins = min(abs(least), abs(least + turn / 2)) < 0.1 * turn
        jumps = step > (0.5 if named else 0.75) * turn
        if fills and begins and jumps.sum() > 1 and (named or (jumps | (step < 0.25 * turn)).all()):
            return turn
    return np.inf


def _unit_of(series: TimeSeries, channel: int) -> str:
    """The unit of a channel: that of its feature where the series has features, else that of the
    series."""
    own = getattr(series, "feature_units", None)
    return str(series.unit) if own is None or channel >= len(own) else str(own[channel])


def _word(unit: str) -> str:
    """The unit without case, brackets and what it is an angle of: `angle (rad)` is `rad`."""
    words = [
        word for word in re.findall(r"[a-z°/]+", unit.lower()) if word not in ("angle", "in", "of")
    ]
    return words[0] if len(words) == 1 else ""


def _unit(series: TimeSeries, period: np.ndarray, file) -> str:
    """The unit that the values are in; an angle's is what its turn says, with a warning where the
    file says otherwise."""
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


def interval_states(name: str, times: np.ndarray, marks: np.ndarray, file) -> BehaviorSeries:
    """An IntervalSeries as states (sample, kind), 1 inside intervals of that kind and 0 outside;
    kinds ascend.

    +k begins an interval of kind k and −k ends it, at times in any order; a kind whose first mark
    ends one has begun inside.
    """
    order = np.argsort(times, kind="stable")
    times, marks = times[order], marks[order]
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


def _running(marks: np.ndarray, kind) -> np.ndarray:
    """How many intervals of a kind run before the first mark and from each mark (1 + sample,) on;
    ends too many end nothing."""
    change = np.where(np.abs(marks) == kind, np.sign(marks), 0).astype(np.int64)
    total = np.cumsum(np.r_[change[change != 0][0] < 0, change])
    return total - np.minimum(np.minimum.accumulate(total), 0)
