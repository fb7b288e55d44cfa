"""What an NWB file holds for a model, what stands in the way, and the command to run next."""

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
    """Look through an NWB 2 file, by path or address, without loading raw data. Raises DataError
    when it is no such file.

    A file that lacks units or spikes is described as well; its `problems` say so.
    """
    with open_nwb(path) as nwbfile, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        session, problems = _session(nwbfile)
        options, more = usable_options(session) if session else (None, ())
        options = enriched(session, options) if options is not None else None
        of_units = _of_units(session)
        behavior = summaries(nwbfile, str(path), of_units["span"])
        return Description(
            file=str(path),
            identifier=nwbfile.identifier,
            **of_units,
            tables=tuple(_table(name, table) for name, table in interval_frames(nwbfile).items()),
            behavior=behavior,
            runs=tuple(
                item.name
                for item in nwbfile.objects.values()
                if getattr(item, "neurodata_type", None) in standalone_types()
            ),
            problems=(*problems, *more, *behavior_problems(nwbfile, behavior)),
            notes=(
                *dict.fromkeys(str(warning.message) for warning in caught),
                *(where_events_are(session) if session else ()),
            ),
            next_commands=next_commands(str(path), options),
        )


def _session(nwbfile: NWBFile):
    try:
        return read_session(nwbfile), ()
    except DataError as error:
        return None, (str(error),)


def _of_units(session: Session | None) -> dict:
    if session is None:
        none = {
            "n_units": 0,
            "n_spikes": 0,
            "rate_quantiles": (),
            "span": None,
            "observed_seconds": None,
            "unit_columns": (),
        }
        return none | {"areas": (), "invalid_seconds": 0.0, "units_observed": ()}
    span = (float(session.spike_times.min()), float(session.spike_times.max()))
    extent = session.observed if is_bounded(session.observed) else np.array([span])
    whole = np.array([[min(span[0], extent[0, 0]), max(span[1], extent[-1, 1])]])
    own = (
        session.unit_observed
        or (extent if session.observed is None else session.observed,) * session.n_units
    )
    seconds = np.array([duration(intersection(each, extent)) for each in own])
    of_units = np.split(session.spike_times, session.spike_index[1:-1])
    n_observed = np.array(
        [_number_inside(times, each) for times, each in zip(of_units, own, strict=True)]
    )
    rates = np.divide(n_observed, seconds, out=np.full(session.n_units, np.nan), where=seconds > 0)
    alike: dict[bytes, list[int]] = {}
    for row, each in enumerate(session.unit_observed or ()):
        alike.setdefault(each.tobytes(), []).append(row)
    return {
        "n_units": session.n_units,
        "n_spikes": len(session.spike_times),
        "rate_quantiles": tuple(np.nanquantile(rates, [0, 0.25, 0.5, 0.75, 1]).tolist())
        if seconds.any()
        else (),
        "span": span,
        "observed_seconds": None
        if session.observed is None
        else duration(intersection(session.observed, extent)),
        "invalid_seconds": duration(intersection(session.invalid, whole)),
        "units_observed": tuple(
            UnitsObserved(tuple(rows), float(seconds[rows[0]])) for rows in alike.values()
        ),
        "unit_columns": tuple(session.units.columns),
        "areas": areas(session.units),
    }


def _number_inside(times: np.ndarray, intervals: np.ndarray) -> int:
    """How many of the ascending `times` (spike,) lie in the intervals (interval, 2)."""
    return int(
        (
            np.searchsorted(times, intervals[:, 1], "right")
            - np.searchsorted(times, intervals[:, 0])
        ).sum()
    )


def areas(units: pd.DataFrame) -> tuple[tuple[str, int], ...]:
    """How many units lie in each area, by the location of their electrodes; one on several areas
    counts in each."""
    if "location" not in units:
        return ()
    each = (
        units.location.map(lambda area: area if isinstance(area, tuple) else (area,))
        .explode()
        .dropna()
    )
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
    """Command lines that fit a model on the file and write its results, with these options; none
    without options."""
    if options is None:
        return ()
    flags = as_flags(options)
    file = shlex.quote(path)
    fit = f"metadyn fit {file} {flags} -o model" if flags else f"metadyn fit {file} -o model"
    return (fit, f"metadyn annotate model {file} -o annotated")
