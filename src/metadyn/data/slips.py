"""Times that are no seconds, of spikes or of a table: how far the ones reach beside the others says
what they may be."""

from __future__ import annotations

import shlex

import numpy as np

from metadyn.data.tables import table_option
from metadyn.errors import DataError, WindowError
from metadyn.records import Session, Windows

# times as far as the last window: recordings do go on after their trials, but hardly so
FAR_BEYOND = 100
# as far as milliseconds reach; sample numbers reach at least 10000 times as far (10 kHz)
MOST_OF_MILLISECONDS = 5000
SPIKE_TIMES = "/units/spike_times"
CONVERT_SCRIPT = (
    "import h5py; u = h5py.File('seconds.nwb', 'r+')['units']; t = u['spike_times']; del "
    "u['spike_times']; "
    "n = u.create_dataset('spike_times', data=t[:] / {factor}); n.attrs.update(t.attrs); "
    "u['spike_times_index'].attrs['target'] = n.ref"
)


def spike_times_in_other_unit(session: Session, windows: Windows) -> DataError | None:
    """The error for spike times that reach so far beyond the windows of a table that they are no
    seconds; None otherwise."""
    last_spike, last_window = float(session.spike_times.max()), float(windows.stop.max())
    if windows.table is None or last_window <= 0 or last_spike < FAR_BEYOND * last_window:
        return None
    times = last_spike / last_window
    guess, factor = _guess(times)
    found = (
        f"spikes to {last_spike:g} s, windows to {last_window:g} s: {times:.0f} times as far, as "
        f"{guess} would be"
    )
    file = shlex.quote(session.source.uri or "FILE.nwb")
    remedy = f'cp {file} seconds.nwb && python -c "{CONVERT_SCRIPT.format(factor=factor)}"'
    problem = "the spike times are not in seconds, as NWB has them"
    return DataError(problem, file=session.source.uri, item=SPIKE_TIMES, found=found, remedy=remedy)


def table_in_other_unit(session: Session, windows: Windows) -> WindowError | None:
    """The error for a table whose rows reach so far beyond the last spike that they are no seconds;
    None otherwise."""
    last_spike, middle = float(session.spike_times.max()), float(np.median(windows.stop))
    if windows.table is None or last_spike <= 0 or middle < FAR_BEYOND * last_spike:
        return None
    last_window = float(windows.stop.max())
    guess, factor = _guess(last_window / last_spike)
    found = (
        f"windows to {last_window:g} s, spikes to {last_spike:g} s: {last_window / last_spike:.0f} "
        "times as far, "
    )
    found += f"as {guess} would be"
    starts = np.unique(windows.start)
    room = min([float(np.median(windows.stop - windows.start)), *np.diff(starts)]) / factor
    n_bins = max(int(room / windows.bin_width + 1e-6), 1)
    options = {**table_option(windows.table), "align": f"start_time / {factor}", "n_bins": n_bins}
    problem, file = "the times of the table are not in seconds, as NWB has them", session.source.uri
    return WindowError(
        problem,
        file=file,
        item=windows.table,
        found=found,
        options=options,
    )


def _guess(times: float) -> tuple[str, int]:
    """What times may be that reach so many times as far as others, and how many of them make a
    second."""
    return (
        ("milliseconds", 1000)
        if times < MOST_OF_MILLISECONDS
        else ("sample numbers, here of 30000 Hz", 30000)
    )
