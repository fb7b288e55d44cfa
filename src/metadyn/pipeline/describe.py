"""`metadyn.inspect`: the contents of an NWB file, what stands in the way, and the next command."""

from __future__ import annotations

import shlex
import warnings
from dataclasses import dataclass
from os import PathLike

import numpy as np
import pandas as pd
from pynwb import NWBFile

from metadyn.data.events import event_columns, misplaced_columns
from metadyn.data.intervals import duration, intersection
from metadyn.data.selection import summarise_values
from metadyn.data.windows import is_bounded
from metadyn.errors import DataError
from metadyn.nwb.opening import open_nwb
from metadyn.nwb.read import read_session
from metadyn.nwb.series_summary import SeriesSummary, summaries
from metadyn.nwb.series_summary import problems as behavior_problems
from metadyn.nwb.tables import interval_frames
from metadyn.pipeline.commands import as_flags
from metadyn.pipeline.proposals import enriched, usable_options, where_events_are
from metadyn.records import Session
from ndx_metadyn.containers.registry import standalone_types


@dataclass(frozen=True)
class ColumnSummary:
    """One column: how many of its rows are missing, whether windows can start from it, and what it
    holds.

    `meant` is what `--align` takes instead, where its times lie outside of their rows ("start_time
    + cue_time").
    """

    name: str
    n_missing: int
    is_event: bool
    values: str
    meant: str | None = None


@dataclass(frozen=True)
class TableSummary:
    """One interval table; `seconds` from start to stop of its rows (shortest, median, longest),
    where they have a stop."""

    name: str
    n_rows: int
    columns: tuple[ColumnSummary, ...]
    seconds: tuple[float, float, float] | None = None


@dataclass(frozen=True)
class UnitsObserved:
    """Units, as rows of the Units table, that were observed at the same times, and for how long
    [s]."""

    rows: tuple[int, ...]
    seconds: float


@dataclass(frozen=True)
class Description:
    """A file at a glance. Rates in Hz (min, quarter, median, three quarters, max), times in
    seconds.

    `observed_seconds`: when some unit was observed, without invalid time (None: the file does not
    say); `invalid_seconds`: what of the recording is invalid for some unit; `units_observed`: empty
    where all units were observed alike. `problems` say what stands in the way with default options,
    and which series cannot be used; `notes` what reading and binning left out; `areas`: how many
    units each has; `next_commands` were tried on this file and work; none when no choice of options
    makes the file usable.
    """

    file: str
    identifier: str
    n_units: int
    n_spikes: int
    rate_quantiles: tuple[float, ...]
    span: tuple[float, float] | None
    observed_seconds: float | None
    invalid_seconds: float
    units_observed: tuple[UnitsObserved, ...]
    unit_columns: tuple[str, ...]
    areas: tuple[tuple[str, int], ...]
    tables: tuple[TableSummary, ...]
    behavior: tuple[SeriesSummary, ...]
    runs: tuple[str, ...]
    problems: tuple[str, ...]
    notes: tuple[str, ...]
    next_commands: tuple[str, ...]


def describe(path: str | PathLike) -> Description:
    """A file at a glance: units, tables, behaviour, problems, and commands that work on it.

    No raw data are loaded. A file that lacks units or spikes is described as well; its `problems`
    say so.

    Parameters
    ----------
    path : of an NWB 2 file, or its address.

    Raises
    ------
    DataError : it is no such file.
    """
    with open_nwb(path) as nwbfile, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        session, problems = _session(nwbfile)
        options = None
        where_events: tuple[str, ...] = ()
        if session is not None:
            options, more = usable_options(session)
            problems += more
            where_events = where_events_are(session)
        if session is not None and options is not None:
            options = enriched(session, options)
        of_units = _of_units(session)
        behavior = summaries(nwbfile, str(path), of_units["span"])
        warned = dict.fromkeys(str(warning.message) for warning in caught)
        return Description(
            file=str(path),
            identifier=nwbfile.identifier,
            **of_units,
            tables=tuple(_table(name, table) for name, table in interval_frames(nwbfile).items()),
            behavior=behavior,
            runs=_run_names(nwbfile),
            problems=(*problems, *behavior_problems(nwbfile, behavior)),
            notes=(*warned, *where_events),
            next_commands=next_commands(str(path), options),
        )


def _run_names(nwbfile: NWBFile) -> tuple[str, ...]:
    """The names of the runs and models in a file."""
    types = standalone_types()
    objects = nwbfile.objects.values()
    return tuple(each.name for each in objects if getattr(each, "neurodata_type", None) in types)


def _session(nwbfile: NWBFile) -> tuple[Session | None, tuple[str, ...]]:
    """The session, or what stands in the way of reading it."""
    try:
        return read_session(nwbfile), ()
    except DataError as error:
        return None, (str(error),)


WITHOUT_UNITS = {
    "n_units": 0,
    "n_spikes": 0,
    "rate_quantiles": (),
    "span": None,
    "observed_seconds": None,
    "unit_columns": (),
    "areas": (),
    "invalid_seconds": 0.0,
    "units_observed": (),
}


def _of_units(session: Session | None) -> dict:
    """The fields of a Description that come from units, spikes and observed times."""
    if session is None:
        return WITHOUT_UNITS
    span = (float(session.spike_times.min()), float(session.spike_times.max()))
    # (interval, 2): when the recording was observed; without a word of it, from first to last spike
    if session.observed is not None and is_bounded(session.observed):
        extent = session.observed
    else:
        extent = np.array([span])
    recording = np.array([[min(span[0], extent[0, 0]), max(span[1], extent[-1, 1])]])
    rates, seconds = _rates(session, extent)
    observed = session.observed
    quantiles = np.nanquantile(rates, [0, 0.25, 0.5, 0.75, 1]).tolist() if seconds.any() else ()
    return {
        "n_units": session.n_units,
        "n_spikes": len(session.spike_times),
        "rate_quantiles": tuple(quantiles),
        "span": span,
        "observed_seconds": None if observed is None else duration(intersection(observed, extent)),
        "invalid_seconds": duration(intersection(session.invalid, recording)),
        "units_observed": _observed_alike(session, seconds),
        "unit_columns": tuple(session.units.columns),
        "areas": areas(session.units),
    }


def _rates(session: Session, extent: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each unit's rate [Hz] while it was observed, NaN where it never was; and for how long [s]."""
    common = extent if session.observed is None else session.observed
    own = session.unit_observed or (common,) * session.n_units
    seconds = np.array([duration(intersection(each, extent)) for each in own])
    spikes = np.split(session.spike_times, session.spike_index[1:-1])
    counts = [_number_inside(times, each) for times, each in zip(spikes, own, strict=True)]
    unknown = np.full(session.n_units, np.nan)
    return np.divide(np.array(counts), seconds, out=unknown, where=seconds > 0), seconds


def _observed_alike(session: Session, seconds: np.ndarray) -> tuple[UnitsObserved, ...]:
    """Units grouped by the times at which they were observed; () where all were observed alike."""
    alike: dict[bytes, list[int]] = {}
    for row, intervals in enumerate(session.unit_observed or ()):
        alike.setdefault(intervals.tobytes(), []).append(row)
    return tuple(UnitsObserved(tuple(rows), float(seconds[rows[0]])) for rows in alike.values())


def _number_inside(times: np.ndarray, intervals: np.ndarray) -> int:
    """How many of the ascending `times` (spike,) lie in the intervals (interval, 2)."""
    before = np.searchsorted(times, intervals[:, 0])
    until = np.searchsorted(times, intervals[:, 1], "right")
    return int((until - before).sum())


def areas(units: pd.DataFrame) -> tuple[tuple[str, int], ...]:
    """How many units lie in each area, by the location of their electrodes.

    A unit on electrodes of several areas counts in each.
    """
    if "location" not in units:
        return ()
    located = units.location.map(lambda area: area if isinstance(area, tuple) else (area,))
    each = located.explode().dropna()
    return tuple((str(area), int(count)) for area, count in each[each != ""].value_counts().items())


def _table(name: str, table: pd.DataFrame) -> TableSummary:
    events, meant = event_columns(table), misplaced_columns(table)
    columns = [
        ColumnSummary(
            str(key),
            int(table[key].isna().sum()),
            key in events,
            summarise_values(table[key]),
            meant.get(key),
        )
        for key in table
    ]
    seconds = (table.stop_time - table.start_time).dropna()
    quantiles = tuple(np.quantile(seconds, [0, 0.5, 1]).tolist()) if len(seconds) else None
    return TableSummary(name, len(table), tuple(columns), quantiles)


def next_commands(path: str, options: dict | None) -> tuple[str, ...]:
    """Commands that fit a model to the file with these options and annotate it; () without any."""
    if options is None:
        return ()
    flags = as_flags(options)
    file = shlex.quote(path)
    fit = f"metadyn fit {file} {flags} -o model" if flags else f"metadyn fit {file} -o model"
    return (fit, f"metadyn annotate model {file} -o annotated")
