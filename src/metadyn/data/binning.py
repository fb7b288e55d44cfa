"""Spike times -> TrialCounts: every spike meets its bin once, on an integer grid of half-open
bins."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from numbers import Integral, Number
from typing import SupportsFloat, cast

import numpy as np
import pandas as pd

from metadyn.data.behavior import bin_behavior, binned_period
from metadyn.data.counting import Spikes, count
from metadyn.data.selection import no_such_column, select_rows
from metadyn.data.slips import spike_times_in_other_unit
from metadyn.data.smoothing import smooth
from metadyn.data.ticks import to_ticks
from metadyn.data.windows import MOST_BINS, check_overlap, make_windows, observed_bins
from metadyn.errors import DataError, SelectionError, WindowError
from metadyn.records import Session, TrialCounts, Windows

FLOAT32_INTEGERS = 2**24  # float32 tells integers apart up to here
MOST_CELLS = 2**33  # trials x bins x units, a byte each at least: what a workstation holds


def bin_spikes(
    session: Session,
    *,
    bin_width: float | int = 0.02,
    intervals: str | None = None,
    align: str | None = None,
    start: float | int = 0.0,
    n_bins: int | None = None,
    max_bins: int | None = None,
    where: str | None = None,
    units: str | None = None,
    min_rate: float | int = 0.1,
    spike_lag: float | int = 0.0,
    smoothing: float | int = 0.0,
    behavior: str | None = None,
    condition: str | None = None,
) -> TrialCounts:
    """Counts of spikes in the bins of the session's windows, with what was observed, behaviour and
    condition labels.

    Parameters
    ----------
    bin_width, intervals, align, start, n_bins, max_bins, where : which windows; see
        `make_windows`. Times in seconds.
    units : expression on the columns of the Units table, e.g. "quality == 'good'".
    min_rate : units that fire less in the windows' observed bins are left out [Hz].
    spike_lag : count spikes this much earlier than the window [s].
    smoothing : SD of a Gaussian that smooths the counts in time [s]; 0 leaves integers.
    behavior : name of a behaviour series that was read with the session, or `velocity:NAME` of a
        position or an angle.
    condition : column of the interval table whose values label the windows; see
        `condition_labels`.

    Raises
    ------
    WindowError, SelectionError : no usable windows, no such rows or units.
    DataError : fewer than two units are left, or the behaviour was not read.
    """
    windows = make_windows(
        session,
        bin_width=bin_width,
        intervals=intervals,
        align=align,
        start=start,
        n_bins=n_bins,
        max_bins=max_bins,
        where=where,
    )
    rows = None
    if units:
        rows = np.flatnonzero(
            select_rows(session.units, units, what="units", option="units", file=session.source.uri)
        )
    counts = replace(
        count_spikes(session, windows, units=rows, spike_lag=spike_lag),
        behavior=None if behavior is None else bin_behavior(session, windows, behavior),
        behavior_name=behavior,
        behavior_period=None if behavior is None else binned_period(session, behavior),
        condition=None if condition is None else condition_labels(session, windows, condition),
        condition_name=condition,
    )
    try:
        counts = drop_unobserved_windows(drop_quiet_units(counts, min_rate))
    except DataError:
        if slip := spike_times_in_other_unit(session, windows):
            raise slip from None
        raise
    counts = replace(counts, unit_digests=unit_digests(session, counts.unit_rows))
    return smooth(counts, smoothing) if smoothing else counts


def count_spikes(
    session: Session,
    windows: Windows,
    *,
    units: np.ndarray | Sequence[int] | None = None,
    spike_lag: float | int = 0.0,
) -> TrialCounts:
    """Counts of the given rows of the Units table (default all) in half-open bins, zero where
    nothing was observed.

    Counts have the smallest unsigned type that holds them. A unit is observed in a bin when all of
    it, `spike_lag` seconds earlier, lies in the unit's observed time. One pass over the spikes;
    memory goes with spikes and bins, never with time. Raises WindowError when windows overlap.
    """
    rows = np.arange(session.n_units) if units is None else np.asarray(units)
    shape = (len(windows), int(windows.n_bins.max()), len(rows))
    _check_memory(session, shape)
    check_overlap(session, windows)
    observed, entries = observed_of_units(session, windows, rows, spike_lag)
    spikes = Spikes(session.spike_times, session.spike_index[rows], session.spike_index[rows + 1])
    counts = count(
        spikes, windows, observed if entries is None else entries, int(to_ticks(spike_lag))
    )
    return TrialCounts(
        session.key, session.source, counts, observed, windows, rows, unit_observed=entries
    )


def observed_of_units(
    session: Session, windows: Windows, rows: np.ndarray, lag: float | int
) -> tuple[np.ndarray, np.ndarray | None]:
    """Masks (trial, time) of the bins where some of these units was observed, and (trial, time,
    unit) of each.

    The second is None where all are observed alike. The work goes with the number of different sets
    of intervals.
    """
    if session.unit_observed is None:
        return observed_bins(session.observed, windows, lag), None
    of_units = [session.unit_observed[row] for row in rows]
    different = {own.tobytes(): own for own in of_units}
    masks = np.stack(
        [observed_bins(own, windows, lag) for own in different.values()], -1
    )  # (trial, time, set)
    if (masks == masks[..., :1]).all():
        return masks[..., 0], None
    place = {key: number for number, key in enumerate(different)}
    return np.asarray(masks.any(-1)), masks[..., [place[own.tobytes()] for own in of_units]]


def unit_digests(session: Session, rows: np.ndarray) -> np.ndarray:
    """The first 16 digits of the sha256 of each unit's spike times (unit,), by which the same
    recording is known again."""
    bounds = session.spike_index
    spikes = (session.spike_times[bounds[row] : bounds[row + 1]] for row in rows)
    return np.array(
        [sha256(np.ascontiguousarray(times, "<f8").data).hexdigest()[:16] for times in spikes]
    )


def _check_memory(session: Session, shape: tuple[int, int, int]) -> None:
    """Raise WindowError where counts (trial, time, unit) of this shape are too large."""
    n_trials, n_bins, n_units = shape
    if n_trials * n_bins <= MOST_BINS and n_trials * n_bins * n_units <= MOST_CELLS:
        return
    found = f"{n_trials} windows x {n_bins} bins (the longest) x {n_units} units"
    remedy = "`max_bins=100` (cuts long windows), a wider `bin_width`, or fewer units by `units`"
    raise WindowError(
        "padded to the longest window, the counts are too large",
        file=session.source.uri,
        found=found,
        remedy=remedy,
    )


def drop_quiet_units(counts: TrialCounts, min_rate: float | int) -> TrialCounts:
    """Without the units that fire less than `min_rate` [Hz] in the bins in which they were
    observed.

    Raises DataError when fewer than two are left. A unit that was never observed counts as quiet,
    with a warning.
    """
    rates = mean_rates(counts)
    unseen = np.isnan(rates)
    rates = np.where(unseen, 0.0, rates)
    kept = np.flatnonzero(rates >= min_rate)
    if len(kept) > 1:
        if unseen.any() and min_rate > 0:
            found = f"{unseen.sum()} of {counts.n_units} units were not observed in any window"
            warnings.warn(f"{counts.source.uri or counts.session}: {found}; left out", stacklevel=3)
        return counts if len(kept) == counts.n_units else observed_alike(counts.select(units=kept))
    many = counts.n_units > 1
    found = (
        f"{len(kept)} of {counts.n_units} units fire at {min_rate:g} Hz or more; rates "
        f"{_sorted_rates(rates)} Hz"
    )
    remedy = (
        "`min_rate=0`, or other windows"
        if many and (rates > 0).sum() > 1
        else "use a file with more units"
    )
    problem = "a model needs two units at least: the latent state of one is not identifiable"
    raise DataError(problem, file=counts.source.uri, item="/units", found=found, remedy=remedy)


def observed_alike(counts: TrialCounts) -> TrialCounts:
    """The same counts, without a mask of entries where it says no more than that of bins."""
    alike = (
        counts.unit_observed is None or (counts.unit_observed == counts.observed[..., None]).all()
    )
    return replace(counts, unit_observed=None) if alike else counts


def drop_unobserved_windows(counts: TrialCounts) -> TrialCounts:
    """Without the windows in which no unit was observed, of those that are left, with a warning
    that counts them."""
    seen = np.asarray(counts.observed.any(1))
    if seen.all():
        return counts
    if not seen.any():
        raise _nothing_observed(counts)
    found = (
        f"in {np.sum(~seen)} of {counts.n_trials} windows none of the {counts.n_units} units was "
        "observed"
    )
    warnings.warn(f"{counts.source.uri or counts.session}: {found}; left out", stacklevel=3)
    return counts.select(trials=seen)


def mean_rates(counts: TrialCounts) -> np.ndarray:
    """Mean rate (unit,) over the bins in which each was observed [Hz]; NaN where there is none."""
    n_observed = counts.observed_entries.sum((0, 1))
    if not n_observed.any():
        raise _nothing_observed(counts)
    spikes = counts.counts.sum(axis=(0, 1)).astype(np.float64)
    unknown = np.full(counts.n_units, np.nan)
    return np.divide(spikes, n_observed * counts.bin_width, out=unknown, where=n_observed > 0)


def _nothing_observed(counts: TrialCounts) -> WindowError:
    """The error for windows that lie outside of all observed time."""
    remedy = "other windows, or a spike lag that leaves them inside the recording"
    return WindowError("no bin of any window was observed", file=counts.source.uri, remedy=remedy)


def _sorted_rates(rates: np.ndarray, most: int = 8) -> str:
    """The highest rates as text, highest first."""
    shown = ", ".join(f"{rate:.3g}" for rate in np.sort(rates)[::-1][:most])
    return shown + (", …" if len(rates) > most else "")


def condition_labels(session: Session, windows: Windows, column: str) -> np.ndarray:
    """The column's value for each window (trial,) as text, empty where there is none (NaN, None,
    empty text).

    Text is compared as it stands, without blanks around it. Numbers are compared as
    numbers: equal ones have one label whatever type they are stored as, also where float32 rounds
    them (0.7853982 and 0.78539816), and a truth value is 0 or 1. Raises SelectionError for an
    unknown column.
    """
    if windows.table is None:
        found, remedy = (
            "windows over the whole recording belong to no row",
            "a table by `intervals`, or leave `condition` out",
        )
        raise SelectionError(
            "no condition labels", file=session.source.uri, item=column, found=found, remedy=remedy
        )
    table = session.intervals[windows.table]
    if column not in table:
        raise no_such_column(
            table, column, f"condition labels of {windows.table}", session.source.uri
        )
    code, values = pd.factorize(
        table[column]
    )  # missing values have the code -1, and by that the last label
    return np.array([*map(label_of, values), ""])[code[windows.trial_row]]


def label_of(value: object) -> str:
    """The label of a value, empty text for a missing one; numbers that differ by no more than
    float32 rounds have one."""
    if value is None or value != value:
        return ""
    if not isinstance(value, Number | np.bool_):
        text = str(value).strip()
        return "" if text.lower() == "nan" else text  # NaN that was written as text
    number = float(cast(SupportsFloat, value))
    if abs(number) < FLOAT32_INTEGERS:
        number = float(np.float32(number))
        return str(int(number)) if number.is_integer() else str(np.float32(number))
    return (
        str(value) if isinstance(value, Integral) or not number.is_integer() else str(int(number))
    )
