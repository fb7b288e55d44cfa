"""Behaviour series at a glance: what each is, and why one cannot be used; none costs the others."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hdmf.utils import get_data_shape
from pynwb import NWBFile

from metadyn.errors import MetadynError
from metadyn.nwb.addresses import Asset, located
from metadyn.nwb.constructing import refused_series
from metadyn.nwb.events import EVENT_TYPES
from metadyn.nwb.series import behavior_series, read_series
from metadyn.records import BehaviorSeries

MOST_FETCHED = 100_000  # numbers of a series that are read over the net
# And from a disk: 16 MB, six hours of a place at 30 Hz; of longer series only the attributes
MOST_READ = 2_000_000
FIRST = 1000  # timestamps of a longer series that tell its rate


@dataclass(frozen=True)
class SeriesSummary:
    """One behaviour series: its path in the file, unit, sampling rate [Hz] (None when unknown),
    shape, and what it is.

    `kind` is line, angle, states or events, or '' where the series was not read: it is too long, or
    has the `problem`.
    """

    path: str
    unit: str
    rate: float | None
    shape: tuple[int, ...]
    kind: str
    problem: str | None


def summaries(
    nwbfile: NWBFile, file: str, span: tuple[float, float] | None
) -> tuple[SeriesSummary, ...]:
    """Every behaviour series of a file whose spikes reach from span[0] to span[1] [s]."""
    most = MOST_FETCHED if isinstance(located(file), Asset) else MOST_READ
    return tuple(
        _summary(path, item, file, span, most) for path, item in behavior_series(nwbfile).items()
    )


def problems(nwbfile: NWBFile, found: tuple[SeriesSummary, ...]) -> tuple[str, ...]:
    """A line for each series that cannot be used, those that pynwb refused last."""
    own = [f"{each.path}: {each.problem}" for each in found if each.problem]
    return (
        *own,
        *(f"{path} cannot be read: {why}" for path, why in refused_series(nwbfile).items()),
    )


def _summary(path: str, item, file: str, span, most: int) -> SeriesSummary:
    shape = _stored_shape(item)
    series, problem = _try_to_read(path, item, file) if np.prod(shape) <= most else (None, None)
    if series is None:
        return SeriesSummary(
            path, str(getattr(item, "unit", "")), _rate_in_file(item), shape, "", problem
        )
    rate = (
        _rate_in_file(item) if series.between in ("linear", "nearest") else None
    )  # else no clock took the samples
    return SeriesSummary(path, series.unit, rate, shape, _kind(series), _apart(series, span))


def _stored_shape(item) -> tuple[int, ...]:
    if item.neurodata_type == "EventsTable":
        return (len(item),)
    return tuple(
        get_data_shape(item.timestamps if item.neurodata_type in EVENT_TYPES else item.data)
    )


def _try_to_read(path: str, item, file: str) -> tuple[BehaviorSeries | None, str | None]:
    try:
        return read_series(item, path, file), None
    except MetadynError as error:
        return None, error.problem + (f" ({error.found})" if error.found else "")
    except (OSError, ValueError, TypeError, KeyError) as error:  # what HDF5 and numpy say of damage
        return None, f"it cannot be read ({type(error).__name__}: {str(error)[:200]})"


def _kind(series: BehaviorSeries) -> str:
    if series.between == "events":
        return "events"
    if np.isfinite(series.period).any():
        return "angle"
    return "line" if series.between == "linear" else "states"


def _rate_in_file(item) -> float | None:
    """The rate in the file, else one over the median step of the first timestamps; the rest is not
    read."""
    if getattr(item, "timestamps", None) is None:
        return float(item.rate) if getattr(item, "rate", None) else None
    step = np.diff(np.asarray(item.timestamps[:FIRST], dtype=np.float64))
    step = step[np.isfinite(step) & (step > 0)]
    return float(1 / np.median(step)) if len(step) else None


def _apart(series: BehaviorSeries, span: tuple[float, float] | None) -> str | None:
    """That the series has no time in common with the spikes, where it has none."""
    first, last = series.times[np.isfinite(series.times)][[0, -1]]
    if span is None or (first <= span[1] and (last >= span[0] or series.between == "held")):
        return None
    return (
        f"no time in common: it lasts from {first:.6g} to {last:.6g} s, the spikes from "
        f"{span[0]:.6g} to {span[1]:.6g} s"
    )
