"""NWB file -> Session: spike times, when units were observed, interval tables and behaviour."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from itertools import pairwise
from os import PathLike

import numpy as np
from hdmf.common import DynamicTable, VectorIndex
from pynwb import NWBFile
from pynwb.misc import Units

from metadyn.data.behavior import series_name
from metadyn.data.ticks import LATEST
from metadyn.errors import DataError
from metadyn.nwb.addresses import Asset, located
from metadyn.nwb.columns import columns_of, table_frame
from metadyn.nwb.observed import read_observation
from metadyn.nwb.opening import open_nwb
from metadyn.nwb.series import behavior_series, read_behavior, short_names
from metadyn.nwb.tables import interval_frames, say_where, units_table
from metadyn.records import Session, Source
from ndx_metadyn.values import read_values

NO_UNITS = "give a file with sorted units (spike_times in its Units table)"


def read_session(
    source: str | PathLike | Asset | NWBFile,
    *,
    key: str | None = None,
    behavior: str | Sequence[str] = (),
) -> Session:
    """Read one recording; raw acquisition is never read.

    Parameters
    ----------
    source : path of an NWB 2 file (HDF5) with a Units table, its address (`https://…`,
        `dandi://…`), or an open NWBFile, which stays open.
    key : name of the session; by default its identifier.
    behavior : names or paths of the behaviour series to read (`Session.behavior_names` lists them).

    Raises
    ------
    DataError : no readable NWB 2 file, no units, no spikes, or no such behaviour series.
    RemoteError : it cannot be fetched.
    """
    asked = (behavior,) if isinstance(behavior, str) else tuple(behavior)
    source = located(source)
    digest = source.digest if isinstance(source, Asset) else None
    with open_nwb(source) as nwbfile:
        uri = nwbfile.container_source if isinstance(source, NWBFile) else str(source)
        file = uri or nwbfile.identifier  # a file in memory is known by its identifier
        units = _required_units(nwbfile, file)
        spike_times, spike_index = read_spikes(units, file)
        say_where(units, nwbfile, file)
        seen = read_observation(nwbfile, units, spike_times, file)
        return Session(
            key=key or nwbfile.identifier,
            source=Source(uri, nwbfile.identifier, nwbfile.object_id, units.object_id, digest),
            spike_times=spike_times,
            spike_index=spike_index,
            units=table_frame(units),
            observed=seen.observed,
            intervals=interval_frames(nwbfile),
            behavior={name: read_behavior(nwbfile, series_name(name), file) for name in asked},
            behavior_names=short_names(behavior_series(nwbfile)),
            unit_observed=seen.unit_observed,
            invalid=seen.invalid,
        )


def _required_units(nwbfile: NWBFile, file: str) -> Units:
    """The table of the units; DataError where there is none, or it has no rows."""
    units = units_table(nwbfile, file)
    if units is None or len(units) == 0:
        found = "no Units table" if units is None else "a Units table without rows"
        raise DataError(
            "the file holds no units", file=file, item="/units", found=found, remedy=NO_UNITS
        )
    return units


def read_spikes(units: DynamicTable, file: str) -> tuple[np.ndarray, np.ndarray]:
    """Spike times (spike,) [s] of all units end to end, and their index (unit + 1,).

    The times are finite and ascend within a unit; what had to be left out or sorted for that is
    said in warnings.

    Raises
    ------
    DataError : there are no spikes, the index is damaged, or the times are no seconds.
    """
    times, bounds = _spikes_by_unit(units, file)
    _check_index(bounds, len(times), file)
    return _clean(times, bounds, file)


def _spikes_by_unit(units: DynamicTable, file: str) -> tuple[np.ndarray, np.ndarray]:
    """Spike times end to end (spike,) [s] and their bounds (unit + 1,).

    Stored as a ragged column, or as (unit, spike) padded with NaN.

    Raises
    ------
    DataError : there are none, or in another layout.
    """
    columns = columns_of(units)
    if "spike_times" not in columns:
        raise DataError(
            "the Units table holds no spike times",
            file=file,
            item="/units/spike_times",
            found=f"columns {', '.join(units.colnames)}",
            remedy=NO_UNITS,
        )
    times = read_values(columns["spike_times"].data).astype(np.float64, copy=False)
    index = columns.get("spike_times_index")
    if isinstance(index, VectorIndex) and times.size == max(times.shape):
        ends = read_values(index.data).astype(np.int64).ravel()
        return times.ravel(), np.concatenate([[0], ends])
    if index is None and times.ndim == 2 and len(times) == len(units):
        return times.ravel(), times.shape[1] * np.arange(len(units) + 1)
    which = "no" if index is None else "an"
    raise DataError(
        "it is not clear which spikes belong to which unit",
        file=file,
        item="/units/spike_times",
        found=f"shape {times.shape}, {which} index, {len(units)} units",
        remedy="nwbfile.add_unit(spike_times=...) for each unit",
    )


def _check_index(bounds: np.ndarray, n_spikes: int, file: str) -> None:
    """Raise DataError unless bounds (unit + 1,) ascend to the number of spikes, which is > 0."""
    if np.any(np.diff(bounds) < 0) or bounds[-1] != n_spikes:
        raise DataError(
            "the index of the spike times is damaged",
            file=file,
            item="/units/spike_times_index",
            found=f"the index ends at {bounds[-1]}, there are {n_spikes} spike times",
        )
    if n_spikes == 0:
        raise DataError(
            "the file holds no spikes",
            file=file,
            item="/units/spike_times",
            found=f"{len(bounds) - 1} units without a spike",
            remedy=NO_UNITS,
        )


def _clean(times: np.ndarray, bounds: np.ndarray, file: str) -> tuple[np.ndarray, np.ndarray]:
    """Leave out times that are not finite and sort within units, each with a warning.

    Beside the spikes this takes one byte a spike, or a second copy where something is left out or
    sorted: the times of an open file in memory are not ours to change.

    Parameters
    ----------
    times, bounds : (spike,) [s] and (unit + 1,).
    """
    finite = np.isfinite(times)
    if not finite.all():
        warnings.warn(
            f"{file}: {np.sum(~finite)} spike times that are NaN or infinite are left out",
            stacklevel=4,
        )
        n_kept = [finite[first:stop].sum() for first, stop in pairwise(bounds)]
        times = times[finite]
        bounds = np.concatenate([[0], np.cumsum(n_kept)])
    del finite
    _check_range(times, file)
    unsorted = [own for own in pairwise(bounds) if not _ascending(times[slice(*own)])]
    if unsorted:
        warnings.warn(
            f"{file}: the spike times of {len(unsorted)} units are not in order; sorted",
            stacklevel=4,
        )
        times = times.copy()  # those of an open file in memory are not ours to change
        for own in unsorted:
            times[slice(*own)].sort()
    return times, bounds


def _ascending(times: np.ndarray) -> bool:
    """Whether no time (spike,) is before the one before it."""
    return not (times[1:] < times[:-1]).any()


def _check_range(times: np.ndarray, file: str) -> None:
    """Raise DataError unless there are times (spike,), all within ±LATEST [s]."""
    if len(times) and times.min() >= -LATEST and times.max() <= LATEST:
        return
    found = "no finite spike time"
    if len(times):
        found = f"spike times from {times.min():g} to {times.max():g} s"
    raise DataError(
        "the spike times cannot be used",
        file=file,
        item="/units/spike_times",
        found=found,
        remedy=f"spike times are seconds from the session's start, at most {LATEST:g}",
    )
