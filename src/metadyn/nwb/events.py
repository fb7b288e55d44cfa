"""Events in an NWB file: moments with or without a kind, in series, in tables of events and in
those of `ndx-events`."""

from __future__ import annotations

import warnings

import numpy as np
from pynwb import TimeSeries
from pynwb.behavior import BehavioralEvents

from metadyn.data.ticks import LATEST
from metadyn.errors import DataError
from metadyn.nwb.sampling import REMEDY, is_regular
from metadyn.records import BehaviorSeries
from ndx_metadyn.values import read_values

EVENT_TYPES = (
    "EventsTable",
    "Events",
    "LabeledEvents",
    "TTLs",
)  # the latter of ndx-events, by the file's own description
MOST_KINDS = 12  # a column each; free text has more


def are_events(series: TimeSeries, times: np.ndarray, stored: np.ndarray) -> bool:
    """Whether samples are moments: texts with times, what is said to be events, one number over and
    over at uneven times."""
    if is_text(stored):
        return series.rate is None
    if series.continuity == "instantaneous" or isinstance(series.parent, BehavioralEvents):
        return True
    one_value = series.continuity is None and (stored == stored[0]).all()
    return bool(one_value and len(times) > 2 and not is_regular(times))


def is_text(stored: np.ndarray) -> bool:
    return stored.dtype.kind not in "fiub"


def events_of(item) -> tuple[np.ndarray, np.ndarray]:
    """Times (event,) [s] of a table of events or of an `ndx-events` object, and their labels
    (event, 1)."""
    if item.neurodata_type == "EventsTable":
        columns = {column.name: column for column in item.columns}
        times = read_values(columns["timestamp"].data)
        labels = columns["annotation"].data if "annotation" in columns else np.zeros(len(times))
    else:
        times = read_values(item.timestamps)
        labels = np.zeros(len(times)) if getattr(item, "data", None) is None else item.data
    labels = read_values(labels)
    return times.astype(np.float64), labels.reshape(len(labels), -1)


def event_series(name: str, times: np.ndarray, labels: np.ndarray, file) -> BehaviorSeries:
    """Moments (event,) [s] in any order as a series: one column a label, in ascending order, else
    one column for all.

    Raises DataError for free text, of which each moment has its own, and where there is no moment.
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


def _kinds(labels: np.ndarray, name: str, file) -> np.ndarray:
    """(event, kind): 1 where the event is of that kind."""
    if labels.shape[1] != 1:
        return np.ones((len(labels), 1))
    text = is_text(labels)
    label = np.array([_as_text(each) for each in labels[:, 0]]) if text else labels[:, 0]
    found = np.unique(label)
    if len(found) <= MOST_KINDS and (text or (found == np.rint(found)).all()):
        return (label[:, None] == found).astype(np.float64)
    if text:
        some = f"{len(found)} different texts at {len(label)} times, e.g. {str(found[0])[:40]!r}"
        raise DataError(
            "free text is no behaviour", file=file, item=name, found=some, remedy=REMEDY
        )
    return np.ones((len(labels), 1))


def _as_text(label) -> str:
    return label.decode(errors="replace") if isinstance(label, bytes) else str(label)
