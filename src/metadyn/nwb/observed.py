"""When each unit was observed: its obs_intervals, less the time in invalid_times."""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

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
    """When the units were observed, as `Session` has it.

    Parameters
    ----------
    observed : (interval, 2) [s], when some unit was observed; None where the file does not say.
    unit_observed : for each unit (interval, 2) [s]; None where all were observed alike.
    invalid : (interval, 2) [s], time that is invalid for some unit.
    """

    observed: np.ndarray | None
    unit_observed: tuple[np.ndarray, ...] | None
    invalid: np.ndarray


def read_observation(
    nwbfile: NWBFile, units: DynamicTable, spike_times: np.ndarray, file: str
) -> Observation:
    """When the units of a file were observed.

    Parameters
    ----------
    units : the table of the units; `spike_times` (spike,) [s] are those of all of them.
    file : its name in messages.

    Raises
    ------
    DataError : obs_intervals have a shape that could mean several things, or no time is left
        between the first and the last spike.
    """
    recorded = read_obs_intervals(units, file)
    invalid, concerned = read_invalid_times(nwbfile.invalid_times, units, file)
    if recorded is None and not len(invalid):
        return Observation(None, None, NO_TIME)
    recorded = [ALL_TIME] * len(units) if recorded is None else recorded
    # Computed once for units that share intervals and invalid times, as most do
    sets: dict[tuple[bytes, bytes], np.ndarray] = {}
    of_units = []
    for own, rows in zip(recorded, concerned.T, strict=True):
        key = own.tobytes(), rows.tobytes()
        if key not in sets:
            sets[key] = intersection(union(own), complement(union(invalid[rows])))
        of_units.append(sets[key])
    observed = union(np.concatenate(list(sets.values())))
    _check_time_is_left(observed, spike_times, len(invalid), file)
    are_alike = all(np.array_equal(own, observed) for own in sets.values())
    unit_observed = None if are_alike else tuple(of_units)
    return Observation(observed, unit_observed, union(invalid[concerned.any(1)]))


def _check_time_is_left(
    observed: np.ndarray, spike_times: np.ndarray, n_invalid: int, file: str
) -> None:
    """Raise DataError unless `observed` (interval, 2) meets the span of the spikes (spike,) [s]."""
    first = spike_times.min()
    last = spike_times.max()
    span = np.array([[first, np.nextafter(last, np.inf)]])  # intervals are half open
    if len(intersection(observed, span)):
        return
    raise DataError(
        "no time is left of this recording",
        file=file,
        item="/intervals/invalid_times",
        found=f"spikes from {first:g} to {last:g} s, where no unit was observed; "
        f"{n_invalid} invalid_times",
        remedy="correct invalid_times or obs_intervals in the file",
    )


def read_obs_intervals(units: DynamicTable, file: str) -> list[np.ndarray] | None:
    """`obs_intervals` of each unit, (interval, 2) [s] in any order; None where the file has none.

    Unusable intervals are left out with a warning. A unit without any, beside units that have some,
    is taken as observed whenever one of them was.

    Raises
    ------
    DataError : a shape that could mean several things.
    """
    column = columns_of(units).get("obs_intervals")
    if column is None:
        return None
    index = columns_of(units).get("obs_intervals_index")
    intervals, bounds = _intervals_by_unit(read_values(column.data), index, len(units), file)
    usable = _are_usable(intervals)
    if not usable.all():
        warnings.warn(
            f"{file}: {np.sum(~usable)} obs_intervals that are NaN, infinite, empty or reversed "
            "are left out",
            stacklevel=4,
        )
    if not usable.any():
        return None
    # Bounds of each unit among the usable intervals, (unit + 1,)
    kept = np.concatenate([[0], np.cumsum(usable)])[bounds]
    of_units = np.split(intervals[usable], kept[1:-1])
    n_unknown = int((np.diff(kept) == 0).sum())
    if n_unknown:
        warnings.warn(
            f"{file}: {n_unknown} of {len(units)} units have no usable obs_intervals; "
            "taken as observed whenever another unit was",
            stacklevel=4,
        )
        every = union(intervals[usable])
        of_units = [own if len(own) else every for own in of_units]
    return of_units


def _are_usable(intervals: np.ndarray) -> np.ndarray:
    """Which intervals (interval, 2) [s] are finite, longer than 0 and within the clock's range."""
    is_finite = np.isfinite(intervals).all(1)
    is_forward = intervals[:, 1] > intervals[:, 0]
    is_in_range = (np.abs(intervals) <= LATEST).all(1)
    return is_finite & is_forward & is_in_range


def _intervals_by_unit(
    values: np.ndarray, index: VectorIndex | None, n_units: int, file: str
) -> tuple[np.ndarray, np.ndarray]:
    """Intervals (interval, 2), unit after unit, and the bounds of each unit (unit + 1,).

    Parameters
    ----------
    values : obs_intervals as stored: with an index (interval, 2) or (2, interval), without one
        (unit, 2) or (unit, interval, 2).

    Raises
    ------
    DataError : the shape could mean several things.
    """
    values = values.astype(np.float64)
    if index is None:
        return _as_many_of_each(values, n_units, file)
    bounds = np.concatenate([[0], read_values(index.data).astype(np.int64).ravel()])
    n_intervals = bounds[-1]
    if np.any(np.diff(bounds) < 0) or len(bounds) != n_units + 1:
        found = f"an index of {len(bounds) - 1} entries that ends at {n_intervals}, {n_units} units"
        raise _unclear(found, file)
    if values.shape == (n_intervals, 2) or values.size == n_intervals == 0:
        return values.reshape(-1, 2), bounds
    if values.shape == (2, n_intervals):
        return values.T, bounds
    raise _unclear(f"shape {values.shape}, an index that ends at {n_intervals}", file)


def _as_many_of_each(values: np.ndarray, n_units: int, file: str) -> tuple[np.ndarray, np.ndarray]:
    """`_intervals_by_unit` without an index: every unit has the same number of intervals."""
    if values.ndim < 2 or values.shape[0] != n_units or values.shape[-1] != 2:
        found = f"shape {values.shape} without obs_intervals_index, {n_units} units"
        raise _unclear(found, file)
    of_each = int(np.prod(values.shape[1:-1]))
    return values.reshape(-1, 2), of_each * np.arange(n_units + 1)


def _unclear(found: str, file: str) -> DataError:
    """The error for obs_intervals whose shape could mean several things."""
    problem = "it is not clear which interval belongs to which unit"
    return DataError(problem, file=file, item="/units/obs_intervals", found=found, remedy=SHAPE)


def read_invalid_times(
    table: TimeIntervals | None, units: DynamicTable, file: str
) -> tuple[np.ndarray, np.ndarray]:
    """`invalid_times`, and which units each concerns; a warning says what is applied to what.

    A row that names time series concerns the units recorded with one of them, and none where none
    of them is electrical; else one whose tags name electrode groups or devices concerns the units
    there; else it concerns all units.

    Returns
    -------
    Intervals (row, 2) [s] and a mask (row, unit).
    """
    if table is None or not len(table):
        return NO_TIME, np.zeros((0, len(units)), bool)
    start = read_values(table["start_time"].data).ravel()
    stop = read_values(table["stop_time"].data).ravel()
    invalid = np.column_stack([start, stop]).astype(np.float64)
    invalid = np.clip(invalid, -LATEST, LATEST)
    usable = invalid[:, 1] > invalid[:, 0]  # False for NaN
    if not usable.all():
        warnings.warn(
            f"{file}: {np.sum(~usable)} invalid_times that are NaN, empty or reversed are left out",
            stacklevel=4,
        )
    concerned = _concerned(table, units) & usable[:, None]
    _warn_of_invalid_times(invalid, concerned, usable, file)
    return invalid[usable], concerned[usable]


def _concerned(table: TimeIntervals, units: DynamicTable) -> np.ndarray:
    """Which units each row concerns, (row, unit), by the rule of `read_invalid_times`.

    A unit of which no place is known is recorded with every series.
    """
    places = _places_of_units(units)
    known = set().union(*places)
    tags = _values_by_row(table, "tags")
    series = _values_by_row(table, "timeseries")
    concerned = np.ones((len(table), len(places)), bool)
    for row in range(len(table)):
        named = [reference.timeseries for reference in series[row]]
        electrical = [each for each in named if isinstance(each, ElectricalSeries)]
        if named and not electrical:
            concerned[row] = False
            continue
        meant = _groups_of_series(electrical) or known.intersection(map(str, tags[row]))
        if meant:
            concerned[row] = [not own or bool(own & meant) for own in places]
    return concerned


def _groups_of_series(electrical: list[ElectricalSeries]) -> set[str]:
    """Names of the electrode groups that some of these series were recorded with."""
    return {
        group.name
        for each in electrical
        for group in _groups(each.electrodes, each.electrodes.data)
    }


def _values_by_row(table: DynamicTable, name: str) -> list[Any]:
    """The values of a ragged column by row; empty where the table has no such column."""
    if name not in table.colnames:
        return [()] * len(table)
    return [table[name][row] for row in range(len(table))]


def _places_of_units(units: DynamicTable) -> list[set[str]]:
    """Names of the electrode groups, and of their devices, that each unit was recorded with.

    Empty for a unit of which the table does not say.
    """
    of_units: list[list[Any]] = [[]] * len(units)
    if "electrodes" in units.colnames:
        of_units = _groups_by_electrodes(units)
    elif "electrode_group" in units.colnames:
        of_units = [[group] for group in units["electrode_group"].data[:]]
    return [{name for group in own for name in (group.name, group.device.name)} for own in of_units]


def _groups_by_electrodes(units: DynamicTable) -> list[list[Any]]:
    """The electrode groups of each unit, by its rows of the electrodes table."""
    columns = columns_of(units)
    electrodes = columns["electrodes"]
    index = columns.get("electrodes_index")
    rows = read_values(electrodes.data).astype(np.int64)
    if index is None:  # one electrode a unit
        ends = np.arange(1, len(rows))
    else:
        ends = read_values(index.data).astype(np.int64)[:-1]
    return [_groups(electrodes, own) for own in np.split(rows, ends)]


def _groups(region: DynamicTableRegion, rows: Any) -> list[Any]:
    """The electrode groups of rows (row,) of the electrodes table that a region refers to."""
    groups = region.table["group"].data[:]
    return [groups[row] for row in np.asarray(rows[:], dtype=np.int64)]


def _warn_of_invalid_times(
    invalid: np.ndarray, concerned: np.ndarray, usable: np.ndarray, file: str
) -> None:
    """Warn of the invalid times that are applied, and to which units, and of those that are not.

    Parameters
    ----------
    invalid, concerned, usable : (row, 2) [s], (row, unit) and (row,).
    """
    applied = concerned.any(1)
    if applied.any():
        seconds = duration(union(invalid[applied]))
        long = f"{seconds:g} s" if seconds < LATEST else "time without end"
        some = f"{concerned.any(0).sum()} of {concerned.shape[1]} units"
        which = "all units" if concerned[applied].all() else some
        warnings.warn(
            f"{file}: {applied.sum()} invalid_times, {long}, count as not observed for {which}",
            stacklevel=5,
        )
    n_other = int((usable & ~applied).sum())
    if n_other:
        warnings.warn(
            f"{file}: {n_other} invalid_times of series that no unit was recorded with "
            "are not applied",
            stacklevel=5,
        )
