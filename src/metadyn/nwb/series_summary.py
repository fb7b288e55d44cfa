"""Behaviour series at a glance: the kind of each, or why one cannot be used.

One that cannot be used does not keep the others from being shown.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from hdmf.utils import get_data_shape
from pynwb import NWBFile

from metadyn.errors import MetadynError
from metadyn.nwb.addresses import Asset, located
from metadyn.nwb.constructing import refused_series
from metadyn.nwb.events import EVENT_TYPES
from metadyn.nwb.series import behavior_series, read_series
from metadyn.records import BehaviorSeries

# Numbers of a series that are read over the net; of longer series only the attributes
MOST_FETCHED = 100_000
# And from a disk: 16 MB, six hours of a place at 30 Hz
MOST_READ = 2_000_000
N_FIRST = 1000  # timestamps of a longer series, whose steps give its rate


@dataclass(frozen=True)
class SeriesSummary:
    """One behaviour series.

    Parameters
    ----------
    path : in the file.
    unit : of its values.
    rate : sampling rate [Hz]; None when unknown.
    shape : of its values.
    kind : line, angle, states or events; "" where it was not read: it is too long, or has the
        problem.
    problem : why it cannot be used; None without a problem.
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
    """Every behaviour series of a file.

    Parameters
    ----------
    span : first and last spike [s]; None without spikes. A series that has no time in common with
        them has a problem.
    """
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


def _summary(
    path: str, item: Any, file: str, span: tuple[float, float] | None, most: int
) -> SeriesSummary:
    """The summary of one object, which is read where it has at most `most` numbers."""
    shape = _stored_shape(item)
    series, problem = _try_to_read(path, item, file) if np.prod(shape) <= most else (None, None)
    if series is None:
        unit = str(getattr(item, "unit", ""))
        return SeriesSummary(path, unit, _rate_in_file(item), shape, "", problem)
    by_a_clock = series.between in ("linear", "nearest")
    rate = _rate_in_file(item) if by_a_clock else None
    return SeriesSummary(path, series.unit, rate, shape, _kind(series), _apart(series, span))


def _stored_shape(item: Any) -> tuple[int, ...]:
    """The shape of the values of a series, or (event,)."""
    if item.neurodata_type == "EventsTable":
        return (len(item),)
    values = item.timestamps if item.neurodata_type in EVENT_TYPES else item.data
    return tuple(get_data_shape(values))


def _try_to_read(path: str, item: Any, file: str) -> tuple[BehaviorSeries | None, str | None]:
    """The series and None, or None and the reason why it cannot be used."""
    try:
        return read_series(item, path, file), None
    except MetadynError as error:
        return None, error.problem + (f" ({error.found})" if error.found else "")
    except (OSError, ValueError, TypeError, KeyError) as error:  # what HDF5 and numpy say of damage
        return None, f"it cannot be read ({type(error).__name__}: {str(error)[:200]})"


def _kind(series: BehaviorSeries) -> str:
    """line, angle, states or events."""
    if series.between == "events":
        return "events"
    if np.isfinite(series.period).any():
        return "angle"
    return "line" if series.between == "linear" else "states"


def _rate_in_file(item: Any) -> float | None:
    """The rate in the file [Hz], else one over the median step of the first timestamps.

    None where there is neither; later timestamps are not read.
    """
    if getattr(item, "timestamps", None) is None:
        return float(item.rate) if getattr(item, "rate", None) else None
    step = np.diff(np.asarray(item.timestamps[:N_FIRST], dtype=np.float64))
    step = step[np.isfinite(step) & (step > 0)]
    return float(1 / np.median(step)) if len(step) else None


def _apart(series: BehaviorSeries, span: tuple[float, float] | None) -> str | None:
    """A sentence where the series has no time in common with the spikes, else None."""
    first, last = series.times[np.isfinite(series.times)][[0, -1]]
    if span is None or (first <= span[1] and (last >= span[0] or series.between == "held")):
        return None
    return (
        f"no time in common: it lasts from {first:.6g} to {last:.6g} s, the spikes from "
        f"{span[0]:.6g} to {span[1]:.6g} s"
    )
