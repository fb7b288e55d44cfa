"""When each unit was observed: its obs_intervals, without the time that invalid_times takes from
it."""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np
from hdmf.common import DynamicTable, DynamicTableRegion, VectorIndex
from pynwb import NWBFile
from pynwb.ecephys import ElectricalSeries
from pynwb.epoch import TimeIntervals

from metadyn.data.intervals import ALL_TIME, NO_TIME, complement, duration, intersection, union
from metadyn.data.ticks import LATEST
from metadyn.errors import DataError
from metadyn.nwb.columns import columns_of
from ndx_metadyn.values import read_values

SHAPE = (
    "nwbfile.add_unit(..., obs_intervals=[[start, stop], ...]) stores (interval, 2) and an index"
)


class Observation(NamedTuple):
    """When the units were observed, as `Session` has it, and the time that is invalid for some of
    them (interval, 2)."""

    observed: np.ndarray | None
    unit_observed: tuple[np.ndarray, ...] | None
    invalid: np.ndarray


def read_observation(
    nwbfile: NWBFile, units: DynamicTable, spike_times: np.ndarray, file: str
) -> Observation:
    """When the units with these spikes (spike,) [s] were observed.

    Raises DataError for obs_intervals in a shape that could mean several things, and where no time
    is left between the first and the last spike.
    """
    recorded = read_obs_intervals(units, file)
    invalid, concerned = read_invalid_times(nwbfile.invalid_times, units, file)
    if recorded is None and not len(invalid):
        return Observation(None, None, NO_TIME)
    recorded = [ALL_TIME] * len(units) if recorded is None else recorded
    sets: dict[tuple[bytes, bytes], np.ndarray] = {}
    of_units = []
    for own, rows in zip(recorded, concerned.T, strict=True):
        key = own.tobytes(), rows.tobytes()
        if key not in sets:
            sets[key] = intersection(union(own), complement(union(invalid[rows])))
        of_units.append(sets[key])
    observed = union(np.concatenate(list(sets.values())))
    first, last = spike_times.min(), spike_times.max()
    if not len(intersection(observed, np.array([[first, np.nextafter(last, np.inf)]]))):
        problem, remedy = (
            "no time is left of this recording",
            "correct invalid_times or obs_intervals in the file",
        )
        found = (
            f"spikes from {first:g} to {last:g} s, where no unit was observed; {len(invalid)} "
            "invalid_times"
        )
        raise DataError(
            problem, file=file, item="/intervals/invalid_times", found=found, remedy=remedy
        )
    alike = all(np.array_equal(own, observed) for own in sets.values())
    return Observation(
        observed, None if alike else tuple(of_units), union(invalid[concerned.any(1)])
    )


def read_obs_intervals(units: DynamicTable, file: str) -> list[np.ndarray] | None:
    """`obs_intervals` of each unit, (interval, 2) [s] in any order; None where the file has none.

    Unusable intervals are left out with a warning. A unit without any, beside units that have some,
    is taken as observed whenever one of them was.
    """
    column = columns_of(units).get("obs_intervals")
    if column is None:
        return None
    index = columns_of(units).get("obs_intervals_index")
    intervals, bounds = _intervals_by_unit(read_values(column.data), index, len(units), file)
    usable = (
        np.isfinite(intervals).all(1)
        & (intervals[:, 1] > intervals[:, 0])
        & (np.abs(intervals) <= LATEST).all(1)
    )
    if not usable.all():
        left_out = (
            f"{np.sum(~usable)} obs_intervals that are NaN, infinite, empty or reversed are left "
            "out"
        )
        warnings.warn(f"{file}: {left_out}", stacklevel=4)
    if not usable.any():
        return None
    kept = np.concatenate([[0], np.cumsum(usable)])[bounds]
    of_units = np.split(intervals[usable], kept[1:-1])
    unknown = int((np.diff(kept) == 0).sum())
    if unknown:
        taken = "taken as observed whenever another unit was"
        warnings.warn(
            f"{file}: {unknown} of {len(units)} units have no usable obs_intervals; {taken}",
            stacklevel=4,
        )
        every = union(intervals[usable])
        of_units = [own if len(own) else every for own in of_units]
    return of_units


def _intervals_by_unit(
    values: np.ndarray, index: VectorIndex | None, n_units: int, file: str
) -> tuple[np.ndarray, np.ndarray]:
    """Intervals (interval, 2) and their bounds (unit + 1,); DataError for a shape that could mean
    several things."""
    values = values.astype(np.float64)
    if index is None:
        if (
            values.ndim >= 2 and values.shape[0] == n_units and values.shape[-1] == 2
        ):  # as many of each unit
            of_each = int(np.prod(values.shape[1:-1]))
            return values.reshape(-1, 2), of_each * np.arange(n_units + 1)
        raise _unclear(f"shape {values.shape} without obs_intervals_index, {n_units} units", file)
    bounds = np.concatenate([[0], read_values(index.data).astype(np.int64).ravel()])
    if np.any(np.diff(bounds) < 0) or len(bounds) != n_units + 1:
        raise _unclear(
            f"an index of {len(bounds) - 1} entries that ends at {bounds[-1]}, {n_units} units",
            file,
        )
    if values.shape == (bounds[-1], 2) or values.size == bounds[-1] == 0:
        return values.reshape(-1, 2), bounds
    if values.shape == (2, bounds[-1]):
        return values.T, bounds
    raise _unclear(f"shape {values.shape}, an index that ends at {bounds[-1]}", file)


def _unclear(found: str, file: str) -> DataError:
    problem = "it is not clear which interval belongs to which unit"
    return DataError(problem, file=file, item="/units/obs_intervals", found=found, remedy=SHAPE)


def read_invalid_times(
    table: TimeIntervals | None, units: DynamicTable, file: str
) -> tuple[np.ndarray, np.ndarray]:
    """`invalid_times` (row, 2) [s] and which units each concerns (row, unit); says in a warning
    what is applied to what.

    A row that names time series concerns the units recorded with one of them, and none where no one
    is electrical; else one whose tags name electrode groups or devices concerns the units there;
    else it concerns all units.
    """
    if table is None or not len(table):
        return NO_TIME, np.zeros((0, len(units)), bool)
    invalid = np.column_stack(
        [read_values(table[name].data).ravel() for name in ("start_time", "stop_time")]
    )
    invalid = np.clip(invalid.astype(np.float64), -LATEST, LATEST)
    usable = invalid[:, 1] > invalid[:, 0]  # False for NaN
    if not usable.all():
        warnings.warn(
            f"{file}: {np.sum(~usable)} invalid_times that are NaN, empty or reversed are left out",
            stacklevel=4,
        )
    concerned = _concerned(table, units) & usable[:, None]
    _say(invalid, concerned, usable, file)
    return invalid[usable], concerned[usable]


def _concerned(table: TimeIntervals, units: DynamicTable) -> np.ndarray:
    """Which units each row concerns, (row, unit). A unit of which no place is known is recorded
    with every series."""
    places = _places_of_units(units)
    known = set().union(*places)
    tags, series = _values_by_row(table, "tags"), _values_by_row(table, "timeseries")
    concerned = np.ones((len(table), len(places)), bool)
    for row in range(len(table)):
        named = [reference.timeseries for reference in series[row]]
        electrical = [each for each in named if isinstance(each, ElectricalSeries)]
        if named and not electrical:
            concerned[row] = False
            continue
        recorded_with = {
            group.name
            for each in electrical
            for group in _groups(each.electrodes, each.electrodes.data)
        }
        meant = recorded_with or known.intersection(map(str, tags[row]))
        if meant:
            concerned[row] = [not own or bool(own & meant) for own in places]
    return concerned


def _values_by_row(table: DynamicTable, name: str) -> list:
    """The values of a ragged column by row; empty where the table has no such column."""
    return (
        [table[name][row] for row in range(len(table))]
        if name in table.colnames
        else [()] * len(table)
    )


def _places_of_units(units: DynamicTable) -> list[set[str]]:
    """Names of the electrode groups, and of their devices, that each unit was recorded with."""
    if "electrodes" in units.colnames:
        electrodes, index = (
            columns_of(units).get(name) for name in ("electrodes", "electrodes_index")
        )
        rows = read_values(electrodes.data).astype(np.int64)
        ends = (
            np.arange(1, len(rows))
            if index is None
            else read_values(index.data).astype(np.int64)[:-1]
        )
        of_units = [_groups(electrodes, own) for own in np.split(rows, ends)]
    elif "electrode_group" in units.colnames:
        of_units = [[group] for group in units["electrode_group"].data[:]]
    else:
        of_units = [[]] * len(units)
    return [{name for group in own for name in (group.name, group.device.name)} for own in of_units]


def _groups(region: DynamicTableRegion, rows) -> list:
    """The electrode groups of rows of the electrodes table that a region refers to."""
    groups = region.table["group"].data[:]
    return [groups[row] for row in np.asarray(rows[:], dtype=np.int64)]


def _say(invalid: np.ndarray, concerned: np.ndarray, usable: np.ndarray, file: str) -> None:
    applied, n_units = concerned.any(1), concerned.shape[1]
    if applied.any():
        seconds = duration(union(invalid[applied]))
        units = (
            "all units"
            if concerned[applied].all()
            else f"{concerned.any(0).sum()} of {n_units} units"
        )
        long = f"{seconds:g} s" if seconds < LATEST else "time without end"
        warnings.warn(
            f"{file}: {applied.sum()} invalid_times, {long}, count as not observed for {units}",
            stacklevel=5,
        )
    other = int((usable & ~applied).sum())
    if other:
        warnings.warn(
            f"{file}: {other} invalid_times of series that no unit was recorded with are not "
            "applied",
            stacklevel=5,
        )
