"""NWB file -> Session: spike times, what was observed, interval tables and behaviour, as the file
has them."""

from __future__ import annotations

import warnings
from itertools import pairwise
from os import PathLike

import numpy as np
from hdmf.common import DynamicTable, VectorIndex
from pynwb import NWBFile

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
    source: str | PathLike | Asset | NWBFile, *, key: str | None = None, behavior=()
) -> Session:
    """Read one recording from a path, an address or an open NWBFile; behaviour series only those
    named, raw acquisition never.

    Parameters
    ----------
    source : NWB 2 file (HDF5) with a Units table, its address (`https://…`, `dandi://…`), or an
    open NWBFile, which stays open. key : what to call the session; default its identifier. behavior
    : names or paths of behaviour series to read (`Session.behavior_names` lists them).

    Raises
    ------
    DataError : no readable NWB 2 file, no units, no spikes, or no such behaviour series.
    RemoteError : it cannot be fetched.
    """
    asked = (behavior,) if isinstance(behavior, str) else tuple(behavior)
    source = located(source)
    with open_nwb(source) as nwbfile:
        uri = nwbfile.container_source if isinstance(source, NWBFile) else str(source)
        file = uri or nwbfile.identifier  # a file in memory is known by its identifier
        units = units_table(nwbfile, file)
        spike_times, spike_index = read_spikes(units, file)
        say_where(units, nwbfile, file)
        seen = read_observation(nwbfile, units, spike_times, file)
        return Session(
            key=key or nwbfile.identifier,
            source=_source(
                nwbfile, units, uri, source.digest if isinstance(source, Asset) else None
            ),
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


def _source(nwbfile: NWBFile, units: DynamicTable, uri: str | None, digest: str | None) -> Source:
    return Source(uri, nwbfile.identifier, nwbfile.object_id, units.object_id, digest)


def read_spikes(units: DynamicTable | None, file: str):
    """Spike times (spike,) [s] of all units end to end, finite and ascending within a unit, and
    their index (unit + 1,)."""
    if units is None or len(units) == 0:
        found = "no Units table" if units is None else "a Units table without rows"
        raise DataError(
            "the file holds no units", file=file, item="/units", found=found, remedy=NO_UNITS
        )
    times, bounds = _spikes_by_unit(units, file)
    _check_index(bounds, len(times), file)
    return _clean(times, bounds, file)


def _spikes_by_unit(units: DynamicTable, file: str) -> tuple[np.ndarray, np.ndarray]:
    """Spike times end to end and their bounds (unit + 1,), from a ragged column or from (unit,
    spike) padded with NaN."""
    columns = columns_of(units)
    if "spike_times" not in columns:
        problem, found = (
            "the Units table holds no spike times",
            f"columns {', '.join(units.colnames)}",
        )
        raise DataError(problem, file=file, item="/units/spike_times", found=found, remedy=NO_UNITS)
    times, index = (
        read_values(columns["spike_times"].data).astype(np.float64, copy=False),
        columns.get("spike_times_index"),
    )
    if isinstance(index, VectorIndex) and times.size == max(times.shape):
        return times.ravel(), np.concatenate(
            [[0], read_values(index.data).astype(np.int64).ravel()]
        )
    if index is None and times.ndim == 2 and len(times) == len(units):
        return times.ravel(), times.shape[1] * np.arange(len(units) + 1)
    problem, remedy = (
        "it is not clear which spikes belong to which unit",
        "nwbfile.add_unit(spike_times=...) for each unit",
    )
    found = f"shape {times.shape}, {'no' if index is None else 'an'} index, {len(units)} units"
    raise DataError(problem, file=file, item="/units/spike_times", found=found, remedy=remedy)


def _check_index(bounds, n_spikes: int, file) -> None:
    if np.any(np.diff(bounds) < 0) or bounds[-1] != n_spikes:
        found = f"the index ends at {bounds[-1]}, there are {n_spikes} spike times"
        raise DataError(
            "the index of the spike times is damaged",
            file=file,
            item="/units/spike_times_index",
            found=found,
        )
    if n_spikes == 0:
        found = f"{len(bounds) - 1} units without a spike"
        raise DataError(
            "the file holds no spikes",
            file=file,
            item="/units/spike_times",
            found=found,
            remedy=NO_UNITS,
        )


def _clean(times, bounds, file):
    """Drop what is not finite and sort within units, each with a warning; the rest untouched.

    Beside the spikes there is a byte a spike at most, or a second copy where something is dropped
    or sorted: those of an open file in memory are not ours to change.
    """
    finite = np.isfinite(times)
    if not finite.all():
        warnings.warn(
            f"{file}: {np.sum(~finite)} spike times that are NaN or infinite are left out",
            stacklevel=4,
        )
        kept = [finite[first:stop].sum() for first, stop in pairwise(bounds)]
        times, bounds = times[finite], np.concatenate([[0], np.cumsum(kept)])
    del finite
    _check_range(times, file)
    unsorted = [own for own in pairwise(bounds) if not _ascending(times[slice(*own)])]
    if unsorted:
        warnings.warn(
            f"{file}: the spike times of {len(unsorted)} units are not in order; sorted",
            stacklevel=4,
        )
        times = times.copy()
        for own in unsorted:
            times[slice(*own)].sort()
    return times, bounds


def _ascending(times) -> bool:
    return not (times[1:] < times[:-1]).any()


def _check_range(times, file) -> None:
    if len(times) == 0 or times.min() < -LATEST or times.max() > LATEST:
        found = (
            "no finite spike time"
            if len(times) == 0
            else f"spike times from {times.min():g} to {times.max():g} s"
        )
        remedy = f"spike times are seconds from the session's start, at most {LATEST:g}"
        raise DataError(
            "the spike times cannot be used",
            file=file,
            item="/units/spike_times",
            found=found,
            remedy=remedy,
        )
