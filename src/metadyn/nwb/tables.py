"""The tables of an NWB file that hold units and those that hold intervals, wherever they lie."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
from hdmf.common import DynamicTable
from pynwb import NWBFile
from pynwb.misc import Units

from metadyn.errors import DataError
from metadyn.nwb.columns import columns_of, table_frame
from metadyn.nwb.series import path_of
from ndx_metadyn import TYPES

TIMES = ("start_time", "stop_time")


def units_table(nwbfile: NWBFile, file: str | None = None) -> Units | None:
    """The file's units.

    Where /units has none, those of the one Units table with spikes elsewhere (in a processing
    module); None, or a table without rows, where no table has units.

    Raises
    ------
    DataError : several tables could be meant.
    """
    if nwbfile.units is not None and len(nwbfile.units):
        return nwbfile.units
    found = {
        path_of(each): each
        for each in nwbfile.objects.values()
        if isinstance(each, Units) and _has_spikes(each)
    }
    if len(found) > 1:
        raise _ambiguous(found, file)
    return next(iter(found.values()), nwbfile.units)


def _ambiguous(found: dict[str, Units], file: str | None) -> DataError:
    """The error for several tables of units, by path, that could be meant."""
    listed = ", ".join(f"{path} ({len(table)} units)" for path, table in sorted(found.items()))
    return DataError(
        "it is not clear which units are meant",
        file=file,
        item="/units",
        found=f"no units there, but {listed}",
        remedy="a copy of the file with the units to use at /units",
    )


def _has_spikes(units: Units) -> bool:
    """Whether a table has rows and a column of spikes."""
    return len(units) > 0 and "spike_times" in columns_of(units)


def say_where(units: Units, nwbfile: NWBFile, file: str) -> None:
    """Warn where units were found in another place than NWB has for them."""
    if units is not nwbfile.units:
        warnings.warn(f"{file}: no units at /units; taken from {path_of(units)}", stacklevel=3)


def interval_tables(nwbfile: NWBFile) -> dict[str, DynamicTable]:
    """Every table of intervals or events.

    Returns
    -------
    dict of table, those of /intervals by name, others by path (`behavior/trials`); these are tables
    with a start_time in each row, or with the timestamp of an event.
    """
    named = {name: getattr(nwbfile, name) for name in ("trials", "epochs", "invalid_times")}
    own = {name: table for name, table in named.items() if table is not None}
    own |= dict(nwbfile.intervals)
    known = {table.object_id for table in own.values()}
    others = {
        path_of(item): item
        for item in nwbfile.objects.values()
        if item.object_id not in known and _has_times(item)
    }
    return own | dict(sorted(others.items()))


def _has_times(item: Any) -> bool:
    """Whether an object is a table with a start_time or a timestamp in each row."""
    # Windows of a run are no trials
    if not isinstance(item, DynamicTable) or getattr(item, "neurodata_type", None) in TYPES:
        return False
    return bool({"start_time", "timestamp"} & set(columns_of(item)))


def interval_frames(nwbfile: NWBFile) -> dict[str, pd.DataFrame]:
    """The columns of each table of `interval_tables` that has start_time and stop_time [s]."""
    frames = {
        name: _with_times(table_frame(table)) for name, table in interval_tables(nwbfile).items()
    }
    return {name: frame for name, frame in frames.items() if set(TIMES) <= set(frame)}


def _with_times(frame: pd.DataFrame) -> pd.DataFrame:
    """The columns of a table, first its times.

    An event starts at its timestamp and stops after its duration, if it has one; a stop that is not
    known is NaN.
    """
    if "start_time" not in frame and "timestamp" in frame:
        frame = frame.rename(columns={"timestamp": "start_time"})
    if "start_time" in frame and "stop_time" not in frame:
        frame = frame.assign(stop_time=frame.start_time + frame.get("duration", np.nan))
    times = [name for name in TIMES if name in frame]
    others = [name for name in frame if name not in TIMES]
    return frame[[*times, *others]]
