"""What the schema cannot forbid, the classes refuse at construction; a file that is wrong all the
same still opens."""

import h5py
import numpy as np
import pytest
from hdmf.backends.hdf5 import H5DataIO
from pynwb import NWBHDF5IO
from pynwb.testing.mock.file import mock_NWBFile as plain_NWBFile

from ndx_metadyn import (
    ESTIMATES,
    DynamicalEmbeddingsTable,
    FiringRateSeries,
    LatentDynamics,
    LatentSeries,
)
from ndx_metadyn.testing.mock import mock_DynamicalEmbeddingsTable, mock_NWBFile

SERIES = [LatentSeries, FiringRateSeries]
TIMES = {"starting_time": 0.0, "rate": 50.0}
DATA = np.zeros((4, 3))


@pytest.mark.parametrize("kind", SERIES)
@pytest.mark.parametrize("data", [np.zeros(4), np.zeros((4, 3, 2)), [0.0, 1.0]])
def test_data_that_is_not_time_by_column_is_refused(kind, data):
    with pytest.raises(ValueError, match="data must have 2 axes"):
        kind(name="x", data=data, **TIMES)


@pytest.mark.parametrize("kind", SERIES)
@pytest.mark.parametrize("sd", [np.ones((4, 2)), np.ones((3, 3)), np.ones(4)])
def test_sd_of_another_shape_is_refused(kind, sd):
    with pytest.raises(ValueError, match=r"data_sd must have the shape of data, \(4, 3\)"):
        kind(name="x", data=DATA, data_sd=sd, **TIMES)


@pytest.mark.parametrize("kind", SERIES)
@pytest.mark.parametrize("bad", [-1e-9, np.nan, np.inf])
@pytest.mark.parametrize("wrap", [np.asarray, H5DataIO, np.ndarray.tolist])
def test_sd_that_is_negative_or_not_finite_is_refused(kind, bad, wrap):
    sd = np.ones((4, 3))
    sd[2, 1] = bad
    with pytest.raises(ValueError, match="finite and >= 0; found 1 value"):
        kind(name="x", data=DATA, data_sd=wrap(sd), **TIMES)


@pytest.mark.parametrize("kind", SERIES)
def test_estimate_is_one_of_four_words(kind):
    assert [
        kind(name="x", data=DATA, estimate=word, **TIMES).estimate for word in ESTIMATES
    ] == list(ESTIMATES)
    with pytest.raises(ValueError, match="smoothed, filtered, forecast, prior; found 'guess'"):
        kind(name="x", data=DATA, estimate="guess", **TIMES)


@pytest.mark.parametrize("kind", SERIES)
@pytest.mark.parametrize(
    "times",
    [np.arange(3.0), LatentSeries(name="t", data=np.zeros((5, 1)), timestamps=np.arange(5.0))],
)
def test_times_of_another_length_are_refused(kind, times):
    with pytest.raises(
        ValueError, match=r"does not match length of timestamps|one time a row of data"
    ):
        kind(name="x", data=DATA, timestamps=times)


def test_zero_sd_and_wrapped_data_are_accepted():
    series = LatentSeries(
        name="x",
        data=H5DataIO(DATA, compression="gzip"),
        data_sd=H5DataIO(np.zeros((4, 3))),
        **TIMES,
    )
    assert series.unit == "a.u."


def test_rates_name_one_unit_a_column():
    units = mock_NWBFile().units.create_region("units", [0, 1], "two rows")
    with pytest.raises(ValueError, match="one row a column of data, 3; found 2"):
        FiringRateSeries(name="x", data=DATA, units=units, **TIMES)
    assert FiringRateSeries(name="x", data=DATA[:, :2], units=units, **TIMES).unit == "Hz"


@pytest.mark.parametrize("width", [0.0, -0.02, np.nan])
def test_bin_width_is_positive(width):
    with pytest.raises(ValueError, match="bin_width must be > 0 s"):
        LatentDynamics(description="d", bin_width=width)


def test_scope_is_window_or_session():
    with pytest.raises(ValueError, match="window or session; found 'trial'"):
        DynamicalEmbeddingsTable(description="d", scope="trial")


def test_session_embedding_is_every_row_of_a_session_table():
    table = mock_DynamicalEmbeddingsTable(scope="session")
    mean, sd = table.session_embedding
    assert all(np.array_equal(row, mean) for row in table["embedding_mean"].data)
    assert all(np.array_equal(row, sd) for row in table["embedding_sd"].data)


@pytest.mark.parametrize(
    "table",
    [
        mock_DynamicalEmbeddingsTable(),
        DynamicalEmbeddingsTable(description="none", scope="session"),
    ],
)
def test_no_session_embedding_where_windows_have_their_own_or_there_are_none(table):
    with pytest.raises(ValueError, match="holds no session embedding"):
        _ = table.session_embedding


def test_a_faulty_file_still_opens_and_says_what_is_wrong(tmp_path):
    path, nwbfile = tmp_path / "faulty.nwb", plain_NWBFile()
    nwbfile.add_acquisition(
        LatentSeries(name="x", description="d", data=DATA, data_sd=DATA, **TIMES)
    )
    with NWBHDF5IO(str(path), "w") as io:
        io.write(nwbfile)
    with h5py.File(path, "r+") as file:
        del file["acquisition/x/data_sd"]
        file["acquisition/x/data_sd"] = np.ones((2, 3))
    with (
        pytest.warns(UserWarning, match=r"data_sd must have the shape"),
        NWBHDF5IO(str(path), "r") as io,
    ):
        assert io.read().acquisition["x"].data.shape == (4, 3)
