"""Times that are no seconds are told by how far they reach, and what is proposed gives the counts
of seconds."""

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import h5py
import numpy as np
import pytest
from pynwb import NWBHDF5IO, NWBFile

from metadyn.data.binning import bin_spikes
from metadyn.errors import DataError, WindowError
from metadyn.nwb.read import read_session
from metadyn.pipeline.describe import describe


def scaled(file, factor, dtype) -> None:
    with h5py.File(file, "r+") as opened:
        old = opened["units/spike_times"]
        values, attributes = (old[:] * factor).astype(dtype), dict(old.attrs)
        del opened["units/spike_times"]
        new = opened.create_dataset("units/spike_times", data=values)
        new.attrs.update(attributes)
        opened["units/spike_times_index"].attrs["target"] = new.ref
        for name in (
            "obs_intervals",
            "obs_intervals_index",
        ):  # a file that does not say what was observed
            opened["units"].pop(name, None)
        kept = [name for name in opened["units"].attrs["colnames"] if name != "obs_intervals"]
        opened["units"].attrs["colnames"] = kept


@pytest.mark.filterwarnings("ignore")  # of gaps and windows, which the slip has made
@pytest.mark.parametrize(
    ("factor", "dtype", "word"),
    [(1000, "f8", "milliseconds"), (1000, "i8", "milli"), (30000, "i8", "sample")],
)
def test_the_proposed_command_gives_the_counts_of_seconds(
    file, tmp_path, factor, dtype, word, monkeypatch
):
    scaled(file, 1, "f8")
    expected = bin_spikes(read_session(file)).counts.sum(axis=(0, 1))
    scaled(file, factor, dtype)
    with pytest.raises(DataError, match=word) as error:
        bin_spikes(read_session(file))
    first, *more = describe(file).problems
    assert first == str(error.value)
    assert not any("units" in each for each in more), "units that fire too rarely follow from it"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    subprocess.run(error.value.remedy, shell=True, check=True)
    found = bin_spikes(read_session("seconds.nwb")).counts.sum(axis=(0, 1))
    assert (
        np.abs(found - expected).sum() <= 0.02 * expected.sum()
    )  # whole milliseconds move a spike by a bin now and then


def recording(path, spikes, rows):
    """A session read from a file of units and of trials with such starts and stops."""
    nwbfile = NWBFile("times on two clocks", "slip", datetime(2020, 1, 1, tzinfo=UTC))
    for times in spikes:
        nwbfile.add_unit(spike_times=times)
    for start, stop in rows:
        nwbfile.add_trial(start_time=start, stop_time=stop)
    with NWBHDF5IO(path, "w") as io:
        io.write(nwbfile)
    return read_session(path)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("factor", "word"), [(1000, "milliseconds"), (30000, "sample")])
def test_rows_that_are_not_in_seconds_are_refused_with_options_that_give_the_same_counts(
    tmp_path, factor, word
):
    rng = np.random.default_rng(3)
    spikes = [np.sort(rng.uniform(0, 31, n)) for n in (200, 350, 90)]
    rows = (0.5 + 1.3 * np.arange(23))[:, None] + [0, 0.83]
    with pytest.raises(WindowError, match="not in seconds") as error:
        bin_spikes(recording(tmp_path / "slip.nwb", spikes, factor * rows))
    assert word in error.value.found
    found = bin_spikes(read_session(tmp_path / "slip.nwb"), **error.value.options)
    np.testing.assert_array_equal(
        found.counts, bin_spikes(recording(tmp_path / "right.nwb", spikes, rows)).counts
    )
    assert len(found.counts) == len(rows)


@pytest.mark.filterwarnings("ignore")
def test_trials_that_go_on_after_the_recording_are_no_slip(tmp_path):
    starts = np.array([1.0, 3.0, 6.0, 9.0, 4000.0, 5000.0])
    spikes = [np.arange(0.05, 20, 0.1), np.arange(0.05, 21, 0.07)]
    assert (
        len(bin_spikes(recording(tmp_path / "long.nwb", spikes, starts[:, None] + [0, 1])).counts)
        == 4
    )
