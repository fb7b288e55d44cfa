"""Spike times -> TrialCounts: every spike meets its bin once, on an integer grid of half-open bins."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from metadyn.data.behavior import bin_behavior
from metadyn.data.counting import Spikes, count
from metadyn.data.selection import no_such_column, select_rows
from metadyn.data.smoothing import smooth
from metadyn.data.ticks import to_ticks
from metadyn.data.windows import MOST_BINS, check_overlap, make_windows, observed_bins
from metadyn.errors import DataError, SelectionError, WindowError
from metadyn.records import Session, TrialCounts, Windows

MOST_CELLS = 2**33  # trials x bins x units, a byte each at least: what a workstation holds


def bin_spikes(
    session: Session,
    *,
    bin_width=0.02,
    intervals: str | None = None,
    align: str | None = None,
    start=0.0,
    n_bins=None,
    max_bins=None,
    where: str | None = None,
    units: str | None = None,
    min_rate=0.1,
    spike_lag=0.0,
    smoothing=0.0,
    behavior: str | None = None,
    condition: str | None = None,
) -> TrialCounts:
    """Counts of spikes in the bins of the session's windows, with what was observed, behaviour and condition labels.

    Parameters
    ----------
    bin_width, intervals, align, start, n_bins, max_bins, where : which windows; see `make_windows`. Times in seconds.
    units : expression on the columns of the Units table, e.g. "quality == 'good'".
    min_rate : units that fire less in the windows' observed bins are left out [Hz].
    spike_lag : count spikes this much earlier than the window [s].
    smoothing : SD of a Gaussian that smooths the counts in time [s]; 0 leaves integers.
    behavior : name of a behaviour series that was read with the session, or `velocity:NAME` of a position.
    condition : column of the interval table whose values, as strings, label the windows.

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
    rows = np.flatnonzero(select_rows(session.units, units, what="units", file=session.source.uri)) if units else None
    counts = replace(
        count_spikes(session, windows, units=rows, spike_lag=spike_lag),
        behavior=None if behavior is None else bin_behavior(session, windows, behavior),
        behavior_name=behavior,
        condition=None if condition is None else condition_labels(session, windows, condition),
    )
    counts = drop_quiet_units(counts, min_rate)
    return smooth(counts, smoothing) if smoothing else counts


def count_spikes(session: Session, windows: Windows, *, units=None, spike_lag=0.0) -> TrialCounts:
    """Counts of the given rows of the Units table (default all) in half-open bins, zero where nothing was observed.

    Counts have the smallest unsigned type that holds them. A bin is observed when all of it, `spike_lag` seconds
    earlier, lies in the session's observed time. One pass over the spikes; memory goes with spikes and bins, never with
    time. Raises WindowError when windows overlap.
    """
    rows = np.arange(session.n_units) if units is None else np.asarray(units)
    shape = (len(windows), int(windows.n_bins.max()), len(rows))
    _check_memory(session, shape)
    check_overlap(session, windows)
    observed = observed_bins(session.observed, windows, spike_lag)
    spikes = Spikes(session.spike_times, session.spike_index[rows], session.spike_index[rows + 1])
    counts = count(spikes, windows, observed, int(to_ticks(spike_lag)))
    return TrialCounts(session.key, session.source, counts, observed, windows, rows)


def _check_memory(session: Session, shape) -> None:
    n_trials, n_bins, n_units = shape
    if n_trials * n_bins <= MOST_BINS and n_trials * n_bins * n_units <= MOST_CELLS:
        return
    found = f"{n_trials} windows x {n_bins} bins (the longest) x {n_units} units"
    remedy = "--max-bins 100 (cuts long windows), a wider --bin-width, or fewer units by --units"
    raise WindowError(
        "padded to the longest window, the counts are too large", file=session.source.uri, found=found, remedy=remedy
    )


def drop_quiet_units(counts: TrialCounts, min_rate) -> TrialCounts:
    """Without the units that fire less than `min_rate` [Hz] in observed bins. Raises DataError when fewer than two are left."""
    rates = mean_rates(counts)
    kept = np.flatnonzero(rates >= min_rate)
    if len(kept) > 1:
        return counts if len(kept) == counts.n_units else counts.select(units=kept)
    many = counts.n_units > 1
    found = f"{len(kept)} of {counts.n_units} units fire at {min_rate:g} Hz or more; rates {_listed(rates)} Hz"
    remedy = "--min-rate 0, or other windows" if many and (rates > 0).sum() > 1 else "use a file with more units"
    problem = "a model needs two units at least: the latent state of one is not identifiable"
    raise DataError(problem, file=counts.source.uri, item="/units", found=found, remedy=remedy)


def mean_rates(counts: TrialCounts) -> np.ndarray:
    """Mean rate (unit,) over the observed bins [Hz]."""
    n_observed = int(counts.observed.sum())
    if n_observed == 0:
        remedy = "other windows, or a spike lag that leaves them inside the recording"
        raise WindowError("no bin of any window was observed", file=counts.source.uri, remedy=remedy)
    return counts.counts.sum(axis=(0, 1)) / (n_observed * counts.bin_width)


def _listed(rates: np.ndarray, most: int = 8) -> str:
    shown = ", ".join(f"{rate:.3g}" for rate in np.sort(rates)[::-1][:most])
    return shown + (", …" if len(rates) > most else "")


def condition_labels(session: Session, windows: Windows, column: str) -> np.ndarray:
    """The column's value for each window (trial,), as strings. Raises SelectionError for an unknown column."""
    if windows.table is None:
        found, remedy = "windows over the whole recording belong to no row", "--intervals TABLE, or leave --condition out"
        raise SelectionError("no condition labels", file=session.source.uri, item=column, found=found, remedy=remedy)
    table = session.intervals[windows.table]
    if column not in table:
        raise no_such_column(table, column, f"condition labels of {windows.table}", session.source.uri)
    return table[column].astype(str).to_numpy(dtype=object)[windows.row].astype(str)
