"""What a dataset claims is read only where the file bears it out."""

import h5py
import numpy as np
import pytest

from ndx_metadyn.values import PACKING, UNPROVEN, read_values


@pytest.fixture
def file(tmp_path):
    with h5py.File(tmp_path / "claims.h5", "w") as opened:
        yield opened


def test_a_thousand_million_rows_that_are_not_there_are_refused(file):
    with pytest.raises(ValueError, match=r"/spikes claims 8,000,000,000 bytes.* stores 0"):
        read_values(file.create_dataset("spikes", 10**9, "f8", chunks=(2**16,), compression="gzip"))


def test_times_of_hours_that_are_stored_and_packed_are_read_and_a_short_dataset_of_fill_values(
    file,
):
    ticks = np.arange(UNPROVEN // 128, dtype="i8")
    stored = file.create_dataset(
        "ticks", data=ticks, chunks=(2**16,), compression="gzip", compression_opts=1, shuffle=True
    )
    assert stored.id.get_storage_size() < ticks.nbytes / PACKING
    np.testing.assert_array_equal(read_values(stored), ticks)
    np.testing.assert_array_equal(
        read_values(file.create_dataset("short", 1000, "f8", chunks=(10,), fillvalue=3.0)), 3.0
    )
