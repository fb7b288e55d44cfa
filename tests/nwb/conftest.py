"""Small NWB files, made with pynwb in a temporary folder."""

from datetime import UTC, datetime

import numpy as np
import pytest
from pynwb import NWBHDF5IO, NWBFile


@pytest.fixture
def new_nwb():
    """An empty NWBFile with these units (a list of spike times each; None for no Units table)."""

    def make(
        spikes=((0.1, 0.2, 0.4), (0.15, 0.3)),
        obs_intervals=None,
        identifier="small",
        **unit_columns,
    ) -> NWBFile:
        nwbfile = NWBFile("a small file", identifier, datetime(2020, 1, 1, tzinfo=UTC))
        for name in unit_columns:
            nwbfile.add_unit_column(name, f"the {name}")
        for i, times in enumerate(spikes or ()):
            own = {name: values[i] for name, values in unit_columns.items()}
            observed = (
                {}
                if obs_intervals is None
                else {"obs_intervals": np.asarray(obs_intervals[i], dtype=float)}
            )
            nwbfile.add_unit(spike_times=np.asarray(times, dtype=float), **observed, **own)
        return nwbfile

    return make


@pytest.fixture
def add_trials():
    """Add trials of a length at the given starts, with more columns."""

    def add(nwbfile, starts, length=0.5, **columns) -> NWBFile:
        for name in columns:
            nwbfile.add_trial_column(name, f"the {name}")
        for i, start in enumerate(starts):
            nwbfile.add_trial(
                start_time=float(start),
                stop_time=start + length,
                **{name: v[i] for name, v in columns.items()},
            )
        return nwbfile

    return add


@pytest.fixture
def save(tmp_path):
    """Write an NWBFile and return its path."""

    def write(nwbfile, name="small.nwb"):
        with NWBHDF5IO(tmp_path / name, "w") as io:
            io.write(nwbfile)
        return tmp_path / name

    return write
