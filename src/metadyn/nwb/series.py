"""Behaviour in an NWB file: found by name without reading it, read only when asked for."""

from __future__ import annotations

import difflib
from collections import Counter

import numpy as np
from hdmf.utils import get_data_shape
from pynwb import NWBFile, TimeSeries
from pynwb.ecephys import ElectricalSeries
from pynwb.image import ImageSeries

from metadyn.errors import DataError
from metadyn.nwb.constructing import left_out
from metadyn.records import BehaviorSeries
from ndx_metadyn.values import values_of

OWN_RESULTS = ("LatentSeries", "FiringRateSeries")  # what metadyn wrote is no behaviour


def behavior_series(nwbfile: NWBFile) -> dict[str, TimeSeries]:
    """Every time series of one or two numeric dimensions, by its path (`behavior/Velocity/cursor_vel`); voltages excepted."""
    found = {_path(item): item for item in nwbfile.objects.values() if isinstance(item, TimeSeries) and _is_behavior(item)}
    return dict(sorted(found.items()))


def _is_behavior(series: TimeSeries) -> bool:
    if isinstance(series, ElectricalSeries | ImageSeries) or series.neurodata_type in OWN_RESULTS:
        return False
    shape = get_data_shape(series.data)
    return shape is not None and len(shape) in (1, 2) and shape[0] > 0 and _dtype(series.data).kind in "fiub"


def _dtype(data) -> np.dtype:
    return np.dtype(data.dtype) if hasattr(data, "dtype") else np.asarray(data[:1]).dtype


def _path(item) -> str:
    names = []
    while item is not None and not isinstance(item, NWBFile):
        names.append(item.name)
        item = item.parent
    return "/".join(reversed(names))


def short_names(paths) -> tuple[str, ...]:
    """The last part of each path where that is unique, else the whole path."""
    times_used = Counter(path.rsplit("/", 1)[-1] for path in paths)
    return tuple(last if times_used[last := path.rsplit("/", 1)[-1]] == 1 else path for path in paths)


def read_behavior(nwbfile: NWBFile, name: str, file) -> BehaviorSeries:
    """The series of that name or path: `values` in `unit` at ascending, finite `times`.

    Samples with a NaN time or value are left out. Raises DataError when no or several series go by the name, or
    when it has no usable time base.
    """
    series = _find(nwbfile, name, file)
    values = _values(series)
    times = _times(series, len(values), file)
    finite = np.isfinite(times) & np.isfinite(values).all(axis=1)
    times, first = np.unique(times[finite], return_index=True)
    if len(times) < 2:
        raise DataError("the behaviour series has no two finite samples", file=file, item=name, remedy="name another series")
    return BehaviorSeries(name=name, times=times, values=values[finite][first], unit=str(series.unit))


def _called(paths, name: str) -> list[str]:
    return [path for path in paths if path == name or path.endswith("/" + name)]


def _find(nwbfile: NWBFile, name: str, file) -> TimeSeries:
    series = behavior_series(nwbfile)
    matches = _called(series, name)
    if len(matches) == 1 or name in series:
        return series[name if name in series else matches[0]]
    refused = left_out(nwbfile)
    if not matches and (same := _called(refused, name)):
        remedy = f"name another series, or mend {same[0]} in a copy of the file"
        raise DataError("the behaviour series cannot be read", file=file, item=same[0], found=refused[same[0]], remedy=remedy)
    there = ", ".join(matches or short_names(series)) or "none"
    nearest = difflib.get_close_matches(name, short_names(series), n=1)
    problem = f"{len(matches)} behaviour series are called {name!r}" if matches else f"no behaviour series {name!r}"
    remedy = f"--behavior {matches[0] if matches else nearest[0]}" if matches or nearest else "leave --behavior out"
    raise DataError(problem, file=file, item=name, found=f"series: {there}", remedy=remedy)


def _values(series: TimeSeries) -> np.ndarray:
    raw = values_of(series.data).astype(np.float64)
    return raw.reshape(len(raw), -1) * series.conversion + (series.offset or 0.0)


def _times(series: TimeSeries, n_samples: int, file) -> np.ndarray:
    if series.timestamps is not None:
        times = values_of(series.timestamps).astype(np.float64)
        if len(times) == n_samples:
            return times
        found = f"{len(times)} timestamps, {n_samples} samples"
    elif series.rate and np.isfinite(series.starting_time or 0.0):
        return (series.starting_time or 0.0) + np.arange(n_samples) / series.rate
    else:
        found = f"starting_time {series.starting_time}, rate {series.rate}, no timestamps"
    raise DataError(
        "the behaviour series has no time base", file=file, item=series.name, found=found, remedy="name another series"
    )
