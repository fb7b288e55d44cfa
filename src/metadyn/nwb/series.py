"""Behaviour in an NWB file: found by name without reading it, read only when asked for."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

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


def behavior_series(nwbfile: NWBFile) -> dict[str, Any]:
    """The objects of a file that can be behaviour, sorted by path.

    These are the time series of one or two dimensions and the tables of events, but for voltages,
    images and results of models; a path is `behavior/Velocity/cursor_vel`.
    """
    found = {path_of(item): item for item in nwbfile.objects.values() if _is_behavior(item)}
    return dict(sorted(found.items()))


def _is_behavior(item: Any) -> bool:
    """Whether an object is a table of events, or a series that `behavior_series` lists."""
    if getattr(item, "neurodata_type", None) in EVENT_TYPES:
        return True
    if not isinstance(item, TimeSeries) or isinstance(item, ElectricalSeries | ImageSeries):
        return False
    if item.neurodata_type in TYPES:  # results of a model are no behaviour
        return False
    shape = get_data_shape(item.data)
    kind = _dtype(item.data).kind
    if shape is None or 0 in shape[:1]:
        return False
    if kind in "fiub":  # numbers and truth values
        return len(shape) in (1, 2)
    return len(shape) == 1 and kind in "OSUT"  # texts


def _dtype(data: Any) -> np.dtype:
    """The dtype of a dataset or of a list."""
    return np.dtype(data.dtype) if hasattr(data, "dtype") else np.asarray(data[:1]).dtype


def path_of(item: Any) -> str:
    """Where an object lies in its NWBFile, by names (`behavior/Velocity/cursor_vel`)."""
    names = []
    while item is not None and not isinstance(item, NWBFile):
        names.append(item.name)
        item = item.parent
    return "/".join(reversed(names))


def short_names(paths: Iterable[str]) -> tuple[str, ...]:
    """The last part of each path where that is unique, else the whole path.

    >>> short_names(["a/x", "b/x", "b/y"])
    ('a/x', 'b/x', 'y')
    """
    last_part = {path: path.rsplit("/", 1)[-1] for path in paths}
    times_used = Counter(last_part.values())
    return tuple(last if times_used[last] == 1 else path for path, last in last_part.items())


def read_behavior(nwbfile: NWBFile, name: str, file: str) -> BehaviorSeries:
    """The series of a name or path.

    Samples without a time, and those NaN in every channel, are left out; the former with a warning.

    Raises
    ------
    DataError : no series or several go by the name, its times do not fit its values, its clock
        jumps back, or nothing in it can be used.
    """
    return read_series(_find(nwbfile, name, file), name, file)


def read_series(item: Any, name: str, file: str) -> BehaviorSeries:
    """As `read_behavior`, of an object that `behavior_series` found.

    Parameters
    ----------
    name : that the series gets; `file` is the file's name in messages.
    """
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


def _find(nwbfile: NWBFile, name: str, file: str) -> Any:
    """The object of a name or path; DataError, with the nearest names, where it is not one."""
    series = behavior_series(nwbfile)
    matches = _called(series, name)
    if name in series:
        return series[name]
    if len(matches) == 1:
        return series[matches[0]]
    refused = refused_series(nwbfile)
    refused_matches = [] if matches else _called(refused, name)
    if refused_matches:
        raise DataError(
            "the behaviour series cannot be read",
            file=file,
            item=refused_matches[0],
            found=refused[refused_matches[0]],
            remedy=REMEDY,
        )
    problem = f"no behaviour series {name!r}"
    if matches:
        problem = f"{len(matches)} behaviour series are called {name!r}"
    names = short_names(series)
    proposals = matches or difflib.get_close_matches(name, names, n=1)
    raise DataError(
        problem,
        file=file,
        item=name,
        found=f"series: {', '.join(matches or names) or 'none'}",
        remedy=as_keywords({"behavior": proposals[0]}) if proposals else "leave `behavior` out",
    )


def _called(paths: Iterable[str], name: str) -> list[str]:
    """The paths that are, or end in, a name."""
    return [path for path in paths if path == name or path.endswith("/" + name)]
