"""Results beside tables as labs have them: the run refers to the rows that the counts came from, to the derived file."""

import h5py
import numpy as np

from metadyn.data.binning import bin_spikes
from metadyn.nwb.derive import derive
from metadyn.nwb.read import read_session
from metadyn.nwb.write import write_run

BUSY = [np.arange(0, 20, 0.05), np.arange(0, 20, 0.031), np.arange(0, 20, 0.07)]


def pad(path):
    with h5py.File(path, "r+") as file:
        for table in ("units", "intervals/trials"):
            names = [name.ljust(18).encode() for name in file[table].attrs["colnames"]]
            file[table].attrs["colnames"] = np.array(names, dtype="S18")


def test_padded_column_names_are_those_of_the_columns_through_to_a_derived_file(new_nwb, add_trials, save, made, tmp_path):
    path = save(add_trials(new_nwb(BUSY, quality=["good", "mua", "good"]), [1, 5, 9], length=1.0, side=["l", "r", "l"]))
    expected = bin_spikes(read_session(path), units="quality == 'good'", where="side == 'l'")
    pad(path)
    counts = bin_spikes(read_session(path), units="quality == 'good'", where="side == 'l'")
    np.testing.assert_array_equal(counts.counts, expected.counts)
    windows = counts.windows
    result = made.posterior(windows.start, windows.n_bins, counts.unit_rows, rows=windows.row)
    write_run(path, tmp_path / "out.nwb", result)
    derived = read_session(derive(tmp_path / "out.nwb", tmp_path / "derived.nwb"))
    assert derived.units.quality.tolist() == ["good", "mua", "good"]
    assert derived.intervals["trials"].side.tolist() == ["l", "r", "l"]
