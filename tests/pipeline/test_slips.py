"""Spike times that are no seconds are told by how far they reach, and the command that is proposed mends a copy."""

import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from metadyn.data.binning import bin_spikes
from metadyn.errors import DataError
from metadyn.nwb.read import read_session


def scaled(file, factor, dtype) -> None:
    with h5py.File(file, "r+") as opened:
        old = opened["units/spike_times"]
        values, attributes = (old[:] * factor).astype(dtype), dict(old.attrs)
        del opened["units/spike_times"]
        new = opened.create_dataset("units/spike_times", data=values)
        new.attrs.update(attributes)
        opened["units/spike_times_index"].attrs["target"] = new.ref
        for name in ("obs_intervals", "obs_intervals_index"):  # a file that does not say what was observed
            opened["units"].pop(name, None)
        kept = [name for name in opened["units"].attrs["colnames"] if name != "obs_intervals"]
        opened["units"].attrs["colnames"] = kept


@pytest.mark.filterwarnings("ignore")  # of gaps and windows, which the slip has made
@pytest.mark.parametrize(
    ("factor", "dtype", "word"), [(1000, "f8", "milliseconds"), (1000, "i8", "milli"), (30000, "i8", "sample")]
)
def test_the_proposed_command_gives_the_counts_of_seconds(file, tmp_path, factor, dtype, word, monkeypatch):
    scaled(file, 1, "f8")
    expected = bin_spikes(read_session(file)).counts.sum(axis=(0, 1))
    scaled(file, factor, dtype)
    with pytest.raises(DataError, match=word) as error:
        bin_spikes(read_session(file))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    subprocess.run(error.value.remedy, shell=True, check=True)
    found = bin_spikes(read_session("seconds.nwb")).counts.sum(axis=(0, 1))
    assert np.abs(found - expected).sum() <= 0.02 * expected.sum()  # whole milliseconds move a spike by a bin now and then
