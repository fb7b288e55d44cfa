"""Spike times that are no seconds: how far they reach beside the windows says what they may be, and how to mend that."""

from __future__ import annotations

import shlex

from metadyn.errors import DataError
from metadyn.records import Session, Windows

FAR = 100  # times as far as the last window: recordings do go on after their trials, but hardly so
MOST = 5000  # as far as milliseconds reach; sample numbers reach at least 10000 times as far (10 kHz)
MEND = (
    "import h5py; u = h5py.File('seconds.nwb', 'r+')['units']; t = u['spike_times']; del u['spike_times']; "
    "n = u.create_dataset('spike_times', data=t[:] / {factor}); n.attrs.update(t.attrs); "
    "u['spike_times_index'].attrs['target'] = n.ref"
)


def other_unit(session: Session, windows: Windows) -> DataError | None:
    """The error for spike times that reach so far beyond the windows of a table that they are no seconds; None otherwise."""
    last_spike, last_window = float(session.spike_times.max()), float(windows.stop.max())
    if windows.table is None or last_window <= 0 or last_spike < FAR * last_window:
        return None
    times = last_spike / last_window
    guess, factor = ("milliseconds", 1000) if times < MOST else ("sample numbers, here of 30000 Hz", 30000)
    found = f"spikes to {last_spike:g} s, windows to {last_window:g} s: {times:.0f} times as far, as {guess} would be"
    file = shlex.quote(session.source.uri or "FILE.nwb")
    remedy = f'cp {file} seconds.nwb && python -c "{MEND.format(factor=factor)}"'
    problem = "the spike times are not in seconds, as NWB has them"
    return DataError(problem, file=session.source.uri, item="/units/spike_times", found=found, remedy=remedy)
