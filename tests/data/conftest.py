"""Sessions made of plain numbers."""

import numpy as np
import pandas as pd
import pytest

from metadyn.records import Session, Source


@pytest.fixture(scope="session")
def make_session():
    """Session from one list of spike times a unit, a trials table (or tables by name), and what was
    observed."""

    def make(
        spikes, trials=None, *, tables=None, observed=None, units=None, behavior=None
    ) -> Session:
        units_spikes = [np.sort(np.asarray(times, dtype=float)) for times in spikes]
        index = np.concatenate([[0], np.cumsum([len(times) for times in units_spikes])]).astype(
            np.int64
        )
        tables = dict(tables or {}) if trials is None else {"trials": trials, **(tables or {})}
        return Session(
            key="made",
            source=Source(uri="made.nwb", identifier="made"),
            spike_times=np.concatenate(units_spikes),
            spike_index=index,
            units=pd.DataFrame(units or {}, index=pd.RangeIndex(len(units_spikes))),
            observed=None if observed is None else np.asarray(observed, dtype=float),
            intervals={name: pd.DataFrame(table) for name, table in tables.items()},
            behavior=behavior or {},
        )

    return make


@pytest.fixture(scope="session")
def make_trials():
    """A table of trials of a length, at the given starts."""

    def make(starts, length=0.5, **columns) -> pd.DataFrame:
        starts = np.asarray(starts, dtype=float)
        return pd.DataFrame({"start_time": starts, "stop_time": starts + length, **columns})

    return make
