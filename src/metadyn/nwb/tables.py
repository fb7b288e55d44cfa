"""Which tables of an NWB file hold units and which hold intervals."""

from __future__ import annotations

import pandas as pd
from pynwb import NWBFile

from metadyn.nwb.columns import table_frame


def interval_tables(nwbfile: NWBFile) -> dict[str, pd.DataFrame]:
    """Every interval table (trials, epochs, invalid_times and the lab's own) by name."""
    named = {name: getattr(nwbfile, name) for name in ("trials", "epochs", "invalid_times")}
    tables = {name: table for name, table in named.items() if table is not None} | dict(nwbfile.intervals)
    return {name: table_frame(table) for name, table in tables.items()}
