"""Each inspector check speaks where its rule is broken in a file, and only there."""

import h5py
import numpy as np
import pytest
from pynwb import NWBHDF5IO
from pynwb.base import TimeSeriesReference

from ndx_metadyn import DynamicalEmbeddingsTable, LatentDynamics
from ndx_metadyn.testing import mock


def messages(path):
    """Names of the checks that speak, of this package's."""
    from nwbinspector import inspect_nwbfile

    import ndx_metadyn.checks  # noqa: F401  registers

    return sorted(message.check_function_name for message in inspect_nwbfile(nwbfile_path=path))


RUN = "processing/ecephys/LatentDynamics"
BREAKS = {
    "check_series_sd_is_finite_and_not_negative": (f"{RUN}/LatentSeries/data_sd", (3, 1), -1.0),
    "check_embedding_sd_is_finite_and_not_negative": (f"{RUN}/embeddings/embedding_sd", (2, 0), np.nan),
    "check_scope_is_consistent": ("processing/ecephys/LatentDynamicsPooled/embeddings/embedding_mean", (1, 0), 9.0),
    "check_bin_centers_lie_inside_their_windows": (f"{RUN}/embeddings/stop_time", (1,), 1.3),
    "check_weights_match_digest": ("processing/ecephys/LatentDynamicsModel/weights", (-1,), 1),
}


@pytest.mark.parametrize("check", BREAKS)
def test_check_speaks_of_its_own_rule_alone(check, mock_file, tmp_path):
    path = tmp_path / "broken.nwb"
    path.write_bytes(mock_file.read_bytes())
    dataset, place, value = BREAKS[check]
    with h5py.File(path, "r+") as file:
        values = file[dataset][:]
        assert values[place] != value
        values[place] = value
        file[dataset][...] = values
    assert messages(path) == [check]


@pytest.mark.parametrize(
    ("estimate", "spoken"), [("forecast", set()), ("smoothed", {"check_bin_centers_lie_inside_their_windows"})]
)
def test_only_forecast_bins_may_lie_beyond_their_window(estimate, spoken, tmp_path):
    path, nwbfile = tmp_path / "beyond.nwb", mock.mock_NWBFile()
    run = LatentDynamics(description="d", bin_width=mock.BIN_WIDTH)
    nwbfile.create_processing_module("ecephys", "Latent dynamics.").add(run)
    series = mock.mock_LatentSeries(estimate=estimate)
    run.add_latent_series(series)
    run.embeddings = DynamicalEmbeddingsTable(description="A context that ends before the bins begin.")
    reference = TimeSeriesReference(mock.N_BINS, mock.N_BINS, series)
    run.embeddings.add_row(start_time=0.0, stop_time=0.5, embedding_mean=np.ones(2, np.float32), timeseries=[reference])
    with NWBHDF5IO(str(path), "w") as io:
        io.write(nwbfile)
    assert set(messages(path)) & set(BREAKS) == spoken
