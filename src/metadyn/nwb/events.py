"""Events in an NWB file: times with or without a label.

They are found in series, in tables of events and in the types of `ndx-events`.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from pynwb import TimeSeries
from pynwb.behavior import BehavioralEvents

from metadyn.data.ticks import LATEST
from metadyn.errors import DataError
from metadyn.nwb.sampling import REMEDY, is_regular
from metadyn.records import BehaviorSeries
from ndx_metadyn.values import read_values

# The latter three are of ndx-events, by the description that a file has of them
EVENT_TYPES = ("EventsTable", "Events", "LabeledEvents", "TTLs")
MOST_KINDS = 12  # a column each; free text has more


def are_events(series: TimeSeries, times: np.ndarray, stored: np.ndarray) -> bool:
    """Whether the samples of a series are events.

    They are where they are texts with timestamps, where the series says so by its continuity or its
    parent, and where they are one number over and over at uneven times.

    Parameters
    ----------
    times, stored : (sample,) [s] and (sample, channel), as `metadyn.nwb.sampling.samples` reads
        them.
    """
    if is_text(stored):
        return series.rate is None
    if series.continuity == "instantaneous" or isinstance(series.parent, BehavioralEvents):
        return True
    one_value = series.continuity is None and (stored == stored[0]).all()
    return bool(one_value and len(times) > 2 and not is_regular(times))


def is_text(stored: np.ndarray) -> bool:
    """Whether values are texts: neither numbers nor truth values."""
    return stored.dtype.kind not in "fiub"


def events_of(item: Any) -> tuple[np.ndarray, np.ndarray]:
    """Times and labels of a table of events or of an `ndx-events` object.

    Returns
    -------
    (event,) [s], in the order of the file, and (event, 1), zeros where there are no labels.
    """
    if item.neurodata_type == "EventsTable":
        columns = {column.name: column for column in item.columns}
        times = read_values(columns["timestamp"].data)
        labels = columns["annotation"].data if "annotation" in columns else np.zeros(len(times))
    else:
        times = read_values(item.timestamps)
        labels = np.zeros(len(times)) if getattr(item, "data", None) is None else item.data
    labels = read_values(labels)
    return times.astype(np.float64), labels.reshape(len(labels), -1)


def event_series(name: str, times: np.ndarray, labels: np.ndarray, file: str) -> BehaviorSeries:
    """Events in any order as a behaviour series.

    Parameters
    ----------
    times, labels : (event,) [s] and (event, channel).

    Returns
    -------
    Series with one column for each label, in ascending order, or one for all events.

    Raises
    ------
    DataError : free text, of which each event has its own, or no event with a time.
    """
    usable = np.abs(times) <= LATEST
    if not usable.all():
        warnings.warn(
            f"{file}: {np.sum(~usable)} events of {name} without a usable time are left out",
            stacklevel=5,
        )
    order = np.flatnonzero(usable)[np.argsort(times[usable], kind="stable")]
    if len(order) == 0:
        raise DataError(
            "there are no events",
            file=file,
            item=name,
            found=f"{len(times)} without a time",
            remedy=REMEDY,
        )
    kinds = _kinds(labels[order], name, file)
    return BehaviorSeries(name, times[order], kinds, "events/s", between="events")


def _kinds(labels: np.ndarray, name: str, file: str) -> np.ndarray:
    """(event, kind): 1 where the event is of that kind, 0 elsewhere.

    Whole numbers and texts are kinds, up to MOST_KINDS of them; else all events are of one kind.

    Raises
    ------
    DataError : more different texts than that.
    """
    if labels.shape[1] != 1:
        return np.ones((len(labels), 1))
    text = is_text(labels)
    label = np.array([_as_text(each) for each in labels[:, 0]]) if text else labels[:, 0]
    found = np.unique(label)
    are_kinds = text or (found == np.rint(found)).all()
    if len(found) <= MOST_KINDS and are_kinds:
        return (label[:, None] == found).astype(np.float64)
    if text:
        some = f"{len(found)} different texts at {len(label)} times, e.g. {str(found[0])[:40]!r}"
        raise DataError(
            "free text is no behaviour", file=file, item=name, found=some, remedy=REMEDY
        )
    return np.ones((len(labels), 1))


def _as_text(label: Any) -> str:
    """A label as text, decoded where the file has bytes."""
    return label.decode(errors="replace") if isinstance(label, bytes) else str(label)
