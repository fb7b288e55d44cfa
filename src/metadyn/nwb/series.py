"""Behaviour in an NWB file: found by name without reading it, read only when asked for."""

from __future__ import annotations

import difflib
from collections import Counter
from dataclasses import replace

import numpy as np
from hdmf.utils import get_data_shape
from pynwb import NWBFile, TimeSeries
from pynwb.ecephys import ElectricalSeries
from pynwb.image import ImageSeries
from pynwb.misc import IntervalSeries

from metadyn.errors import DataError, as_keywords
from metadyn.nwb.constructing import refused_series
from metadyn.nwb.events import EVENT_TYPES, are_events, event_series, events_of, is_text
from metadyn.nwb.meaning import interval_states, trace
from metadyn.nwb.sampling import REMEDY, samples
from metadyn.records import BehaviorSeries
from ndx_metadyn import TYPES


def behavior_series(nwbfile: NWBFile) -> dict:
    """Every time series of one or two dimensions and every table of events, by its path
    (`behavior/Velocity/cursor_vel`).

    Voltages and images excepted.
    """
    found = {path_of(item): item for item in nwbfile.objects.values() if _is_behavior(item)}
    return dict(sorted(found.items()))


def _is_behavior(item) -> bool:
    if getattr(item, "neurodata_type", None) in EVENT_TYPES:
        return True
    excepted = ElectricalSeries | ImageSeries
    if (
        not isinstance(item, TimeSeries)
        or isinstance(item, excepted)
        or item.neurodata_type in TYPES  # results of a model are no behaviour
    ):
        return False
    shape, kind = get_data_shape(item.data), _dtype(item.data).kind
    if shape is None or 0 in shape[:1]:
        return False
    return len(shape) in (1, 2) if kind in "fiub" else len(shape) == 1 and kind in "OSUT"


def _dtype(data) -> np.dtype:
    return np.dtype(data.dtype) if hasattr(data, "dtype") else np.asarray(data[:1]).dtype


def path_of(item) -> str:
    names = []
    while item is not None and not isinstance(item, NWBFile):
        names.append(item.name)
        item = item.parent
    return "/".join(reversed(names))


def short_names(paths) -> tuple[str, ...]:
    """The last part of each path where that is unique, else the whole path."""
    times_used = Counter(path.rsplit("/", 1)[-1] for path in paths)
    return tuple(
        last if times_used[last := path.rsplit("/", 1)[-1]] == 1 else path for path in paths
    )


def read_behavior(nwbfile: NWBFile, name: str, file) -> BehaviorSeries:
    """The series of that name or path, and no other: `values` in `unit` at ascending `times`, and
    what lies between.

    Samples without a time, and those NaN in every channel, are left out; the former with a warning.
    Raises DataError when no or several series go by the name, when its times do not fit its values,
    when its clock jumps back, or when nothing in it can be used.
    """
    return read_series(_find(nwbfile, name, file), name, file)


def read_series(item, name: str, file) -> BehaviorSeries:
    """As `read_behavior`, of an object that `behavior_series` found."""
    if item.neurodata_type in EVENT_TYPES:
        return event_series(name, *events_of(item), file)
    times, stored = samples(item, file)
    if isinstance(item, IntervalSeries):
        return interval_states(name, times, stored[:, 0], file)
    if are_events(item, times, stored):
        return event_series(name, times, stored, file)
    if is_text(stored):
        return replace(event_series(name, times, stored, file), unit="state", between="nearest")
    return trace(item, name, times, stored, file)


def _find(nwbfile: NWBFile, name: str, file):
    series = behavior_series(nwbfile)
    matches = _called(series, name)
    if len(matches) == 1 or name in series:
        return series[name if name in series else matches[0]]
    refused = refused_series(nwbfile)
    if not matches and (same := _called(refused, name)):
        found = refused[same[0]]
        raise DataError(
            "the behaviour series cannot be read",
            file=file,
            item=same[0],
            found=found,
            remedy=REMEDY,
        )
    there = ", ".join(matches or short_names(series)) or "none"
    nearest = difflib.get_close_matches(name, short_names(series), n=1)
    problem = (
        f"{len(matches)} behaviour series are called {name!r}"
        if matches
        else f"no behaviour series {name!r}"
    )
    remedy = (
        as_keywords({"behavior": matches[0] if matches else nearest[0]})
        if matches or nearest
        else "leave `behavior` out"
    )
    raise DataError(problem, file=file, item=name, found=f"series: {there}", remedy=remedy)


def _called(paths, name: str) -> list[str]:
    return [path for path in paths if path == name or path.endswith("/" + name)]
