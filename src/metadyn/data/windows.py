"""Windows of whole bins: from interval rows, round events, or end to end over a continuous
recording."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import TypeGuard

import numpy as np
import pandas as pd

from metadyn.data.events import check_inside, event_columns, event_times
from metadyn.data.intervals import intersection, overlapping_pairs
from metadyn.data.selection import select_rows
from metadyn.data.slips import spike_times_in_other_unit, table_in_other_unit
from metadyn.data.tables import choose_table, table_option, usable_rows
from metadyn.data.ticks import LATEST, rounding, to_seconds, to_ticks, within
from metadyn.errors import WindowError, as_keywords
from metadyn.records import Session, Windows

CONTINUOUS_BINS = 100  # 2 s at 20 ms: long against a time constant, short against a recording
MOST_BINS = 100_000_000  # in all windows together (23 days at 20 ms); more is a slip in the times
# longest window over the median one; more means that rows are not trials from start to stop
MOST_UNEVEN = 20
# [s] with no spike of any unit, in a file without obs_intervals, is a gap in the recording
LONGEST_SILENCE = 60.0


def make_windows(
    session: Session,
    *,
    bin_width: float | int = 0.02,
    intervals: str | None = None,
    align: str | None = None,
    start: float | int = 0.0,
    n_bins: int | None = None,
    max_bins: int | None = None,
    where: str | None = None,
) -> Windows:
    """The windows that these choices give, in the order of the table's rows; times in seconds.

    Rows of `intervals` (default `trials`) that pass `where`, from start_time to stop_time as whole
    bins, or `n_bins` from `start` after the event column `align`; longer than `max_bins` are cut. A
    recording without trials (or `intervals="recording"`) is covered by consecutive windows of
    `n_bins`. Rows without times, shorter than a bin or where nothing was recorded are left out with
    a warning.

    Raises WindowError when windows overlap, differ wildly in length, or none is left.
    """
    bin_ticks = int(to_ticks(bin_width))
    if bin_ticks < 1:
        found = f"bin_width {bin_width} s"
        raise WindowError(
            "a bin cannot be that narrow",
            file=session.source.uri,
            found=found,
            options={"bin_width": 0.02},
        )
    name = choose_table(session, intervals)
    if name is None:
        _refuse_row_options(session, align=align, start=start, where=where)
        windows = consecutive_windows(session, bin_ticks, n_bins or CONTINUOUS_BINS)
    else:
        table = session.intervals[name]
        rows = _selected_rows(session, name, where)
        if align is None:
            _refuse_event_options(session, name, table, start=start, n_bins=n_bins)
            windows = from_start_to_stop(session, name, rows, bin_ticks)
        else:
            windows = from_events(session, name, rows, align, start, n_bins, bin_ticks)
    check_lengths(session, windows, cut=max_bins is not None or align is not None or name is None)
    windows = drop_unobserved(session, windows)
    check_overlap(session, windows, align)
    return drop_unobserved(session, cut_windows(windows, max_bins)) if max_bins else windows


def _selected_rows(session: Session, name: str, where: str | None) -> np.ndarray:
    table = session.intervals[name]
    if where is None:
        return np.arange(len(table))
    return np.flatnonzero(
        select_rows(table, where, what=f"rows of {name}", file=session.source.uri)
    )


def _refuse_row_options(session: Session, **options: object) -> None:
    """Raise WindowError for options that choose rows where there is no table."""
    given = ", ".join(name for name, value in options.items() if value)
    if given:
        found = f"interval tables: {', '.join(session.intervals) or 'none'}"
        remedy = (
            as_keywords({"intervals": next(iter(session.intervals))})
            if session.intervals
            else f"leave out {given}"
        )
        raise WindowError(
            f"{given} needs an interval table",
            file=session.source.uri,
            item=given,
            found=found,
            remedy=remedy,
        )


def _refuse_event_options(
    session: Session,
    name: str,
    table: pd.DataFrame,
    *,
    start: float | int,
    n_bins: int | None,
) -> None:
    """Raise WindowError for options of windows around an event where no event is named."""
    if start or n_bins:
        found = (
            f"{'n_bins' if n_bins else 'start'} without align; event columns: "
            f"{', '.join(event_columns(table))}"
        )
        remedy = f"align='start_time', n_bins={n_bins or 50}, or `max_bins` to cut long rows"
        problem = "windows of a fixed length need an event to start from"
        raise WindowError(problem, file=session.source.uri, item=name, found=found, remedy=remedy)


def from_start_to_stop(session: Session, name: str, rows: np.ndarray, bin_ticks: int) -> Windows:
    """One window a row, from start_time on, of as many whole bins as there are before stop_time."""
    table = session.intervals[name]
    starts, stops = (
        event_times(session, name, "start_time"),
        event_times(session, name, "stop_time"),
    )
    rows = usable_rows(session, name, rows, {"start_time": starts, "stop_time": stops})
    start, stop = to_ticks(starts[rows]), to_ticks(stops[rows])
    n_bins = (stop - start) // bin_ticks
    kept = n_bins > 0
    if not kept.all():
        found = (
            f"{np.sum(~kept)} of {len(table)} rows of {name} are shorter than a bin "
            f"({to_seconds(bin_ticks):g} s)"
        )
        if not kept.any():
            remedy = "a smaller `bin_width`, or align='start_time', n_bins=50"
            raise WindowError(
                "every window is empty",
                file=session.source.uri,
                item=name,
                found=found,
                remedy=remedy,
            )
        warnings.warn(f"{session.source.uri or session.key}: {found}; left out", stacklevel=4)
    return Windows(
        to_seconds(start[kept]), n_bins[kept], float(to_seconds(bin_ticks)), name, rows[kept]
    )


def from_events(
    session: Session,
    name: str,
    rows: np.ndarray,
    align: str,
    start: float | int,
    n_bins: int | None,
    bin_ticks: int,
) -> Windows:
    """One window of `n_bins` a row, from `start` seconds after the event in column `align`."""
    if n_bins is None:
        remedy = as_keywords({"align": align, "n_bins": 50})
        raise WindowError(
            "a window round an event needs a length",
            file=session.source.uri,
            item=align,
            remedy=remedy,
        )
    events = event_times(session, name, align)
    rows = usable_rows(session, name, rows, {align: events})
    check_inside(
        session,
        name,
        align,
        rows,
        events,
        {**({"start": start} if start else {}), "n_bins": n_bins},
    )
    starts = to_ticks(events[rows]) + to_ticks(start)
    lengths = np.full(len(rows), n_bins, dtype=np.int64)
    return Windows(to_seconds(starts), lengths, float(to_seconds(bin_ticks)), name, rows)


def consecutive_windows(session: Session, bin_ticks: int, n_bins: int) -> Windows:
    """Windows of `n_bins` end to end over each recorded stretch; the last of a stretch may be
    shorter."""
    recorded = to_ticks(recorded_stretches(session))
    start, lengths = recorded[:, 0], (recorded[:, 1] - recorded[:, 0]) // bin_ticks
    kept = lengths > 0
    if not kept.any():
        found = (
            f"{len(recorded)} recorded stretches, the longest "
            f"{to_seconds((recorded[:, 1] - recorded[:, 0]).max()):g} s"
        )
        problem, remedy = "no stretch of the recording is as long as a bin", "a smaller `bin_width`"
        raise WindowError(
            problem, file=session.source.uri, item="recording", found=found, remedy=remedy
        )
    nowhere = np.full(int(kept.sum()), -1, dtype=np.int64)
    whole = Windows(
        to_seconds(start[kept]), lengths[kept], float(to_seconds(bin_ticks)), None, nowhere
    )
    _check_size(session, whole)
    return cut_windows(whole, n_bins)


def recorded_stretches(session: Session) -> np.ndarray:
    """Where the recording is known to have run (stretch, 2) [s]: obs_intervals, else from spike to
    spike; all but invalid."""
    if is_bounded(session.observed):
        return session.observed
    times = np.sort(session.spike_times)
    gaps = np.flatnonzero(np.diff(times) > LONGEST_SILENCE)
    if len(gaps):
        found = (
            f"{len(gaps)} stretches of over {LONGEST_SILENCE:g} s in which no unit fires, and no "
            "obs_intervals"
        )
        warnings.warn(
            f"{session.source.uri or session.key}: {found}; taken as not recorded", stacklevel=4
        )
    stretches = np.column_stack([times[np.r_[0, gaps + 1]], times[np.r_[gaps, len(times) - 1]]])
    return stretches if session.observed is None else intersection(stretches, session.observed)


def is_bounded(observed: np.ndarray | None) -> TypeGuard[np.ndarray]:
    """Whether the file says when observation began and ended, not only what is invalid."""
    return observed is not None and bool(observed[0, 0] > -LATEST and observed[-1, 1] < LATEST)


def cut_windows(windows: Windows, max_bins: int) -> Windows:
    """Windows longer than `max_bins` as consecutive pieces of that length, the last one shorter."""
    pieces = -(-windows.n_bins // max_bins)
    first = np.repeat(np.cumsum(pieces) - pieces, pieces)
    done = (np.arange(len(first)) - first) * max_bins
    start = np.repeat(to_ticks(windows.start), pieces) + done * int(to_ticks(windows.bin_width))
    n_bins = np.minimum(np.repeat(windows.n_bins, pieces) - done, max_bins)
    return replace(
        windows,
        start=to_seconds(start),
        n_bins=n_bins,
        trial_row=np.repeat(windows.trial_row, pieces),
    )


def drop_unobserved(session: Session, windows: Windows) -> Windows:
    """Leave out, with a warning, windows in which no bin was recorded; raise WindowError when that
    is all of them."""
    _check_size(session, windows)
    if is_bounded(session.observed):
        kept, extent = np.ones(len(windows), bool), session.observed[[0, -1], [0, 1]]
    else:
        first, last = to_ticks(session.spike_times.min()), to_ticks(session.spike_times.max())
        kept, extent = (
            (to_ticks(windows.start) <= last) & (window_ends(windows) > first),
            to_seconds([first, last]),
        )
    if session.observed is not None:
        kept = kept & has_observed_bin(session.observed, windows)
    if kept.all():
        return windows
    if slip := table_in_other_unit(session, windows):
        raise slip
    found = f"{np.sum(~kept)} of {len(kept)} windows lie where nothing was recorded"
    found += " or all of it is invalid" if len(session.invalid) else ""
    found += f" (recorded from {extent[0]:g} to {extent[1]:g} s)"
    if not kept.any():
        if other := spike_times_in_other_unit(session, windows):
            raise other
        start, stop = windows.start.min(), to_seconds(window_ends(windows)).max()
        remedy = (
            "check the unit of the table's times (seconds on the session's clock), "
            "or another `intervals` or `align`"
        )
        found = (
            f"windows from {start:g} to {stop:g} s, a recording from {extent[0]:g} to "
            f"{extent[1]:g} s"
        )
        problem = "every window lies where nothing was recorded"
        raise WindowError(
            problem, file=session.source.uri, item=windows.table, found=found, remedy=remedy
        )
    warnings.warn(f"{session.source.uri or session.key}: {found}; left out", stacklevel=3)
    return windows.select(kept)


def window_ends(windows: Windows) -> np.ndarray:
    """Where each window ends (window,), in ticks."""
    return to_ticks(windows.start) + windows.n_bins * int(to_ticks(windows.bin_width))


def has_observed_bin(observed: np.ndarray, windows: Windows) -> np.ndarray:
    """Whether some bin of each window (window,) lies wholly in observed time; bins are not
    enumerated."""
    width = int(to_ticks(windows.bin_width))
    intervals, start, end = to_ticks(observed), to_ticks(windows.start), window_ends(windows)
    window, which = overlapping_pairs(np.column_stack([start, end]), intervals)
    met = intervals[which]
    bins_before = np.maximum(-((start[window] - met[:, 0]) // width), 0)
    whole = start[window] + (bins_before + 1) * width <= np.minimum(met[:, 1], end[window])
    return np.bincount(window[whole], minlength=len(windows)) > 0


def observed_bins(
    observed: np.ndarray | None, windows: Windows, lag: float | int = 0.0
) -> np.ndarray:
    """Mask (trial, time) of the bins in a window that lie wholly in observed time, `lag` seconds
    earlier; padding is False."""
    bins = np.arange(windows.n_bins.max())
    inside = bins < windows.n_bins[:, None]
    if observed is None:
        return inside
    width = int(to_ticks(windows.bin_width))
    left = to_ticks(windows.start)[:, None] - int(to_ticks(lag)) + bins * width
    return inside & within(left, left + width, to_ticks(observed))


def _check_size(session: Session, windows: Windows) -> None:
    """Raise WindowError where the windows hold more than MOST_BINS bins."""
    total = int(windows.n_bins.sum(dtype=np.float64))
    if total > MOST_BINS:
        worst = int(np.argmax(windows.n_bins))
        length = windows.n_bins[worst] * windows.bin_width
        where = (
            f"row {windows.trial_row[worst]} of {windows.table}"
            if windows.table
            else "a recorded stretch"
        )
        found = f"{total:.3g} bins; the longest window, {where}, lasts {length:g} s"
        remedy = (
            "align='start_time', n_bins=50, or `where` to leave such rows out"
            if windows.table
            else "a wider `bin_width`"
        )
        raise WindowError(
            "the windows hold too many bins",
            file=session.source.uri,
            item=windows.table,
            found=found,
            remedy=remedy,
        )


def check_lengths(session: Session, windows: Windows, cut: bool) -> None:
    """Refuse windows from start to stop that differ wildly in length, unless they are to be cut."""
    median, longest = float(np.median(windows.n_bins)), int(windows.n_bins.max())
    if cut or longest <= MOST_UNEVEN * median:
        return
    width = windows.bin_width
    found = (
        f"{len(windows)} rows, the median one {median * width:.3g} s, the longest "
        f"{longest * width:.4g} s"
    )
    options = fitting_options(windows, "start_time")
    remedy = f"`max_bins={CONTINUOUS_BINS}` (cuts long rows into pieces)" + (
        f", or {as_keywords(options)}" if options else ""
    )
    problem = "the rows from start_time to stop_time differ too much in length to be trials"
    raise WindowError(
        problem,
        file=session.source.uri,
        item=windows.table,
        found=found,
        remedy=remedy,
        options=options,
    )


def fitting_options(windows: Windows, align: str) -> dict | None:
    """Windows of one length after the event `align`, where these windows start, that do not
    overlap; None if there are none."""
    room = fitting_bins(windows)
    return (
        {**table_option(windows.table), "align": align, "n_bins": room}
        if room and windows.table
        else None
    )


def fitting_bins(windows: Windows, most: int = CONTINUOUS_BINS) -> int:
    """The largest round number of bins, up to `most`, that windows at these starts can have without
    overlap."""
    starts = np.unique(to_ticks(windows.start))
    room = (
        int(np.diff(starts).min() // int(to_ticks(windows.bin_width))) if len(starts) > 1 else most
    )
    return min(room, most) if room < 10 else min(room - room % 10, most)


def check_overlap(session: Session, windows: Windows, align: str | None = None) -> None:
    """Refuse windows that share time; touching ones are fine."""
    order = np.argsort(windows.start, kind="stable")
    start, end = to_ticks(windows.start)[order], window_ends(windows)[order]
    shared = np.flatnonzero(end[:-1] - start[1:] > 2 * rounding(start[1:]))
    if len(shared) == 0:
        return
    here = shared[0]
    first, second = windows.trial_row[order[[here, here + 1]]]
    found = (
        f"{len(shared)} overlaps; rows {first} and {second} share "
        f"{to_seconds(end[here] - start[here + 1]):g} s"
    )
    options = fitting_options(windows, align or "start_time")
    remedy = as_keywords(options) if options else "`where`, to leave doubled rows out"
    raise WindowError(
        "windows overlap",
        file=session.source.uri,
        item=windows.table,
        found=found,
        remedy=remedy,
        options=options,
    )
