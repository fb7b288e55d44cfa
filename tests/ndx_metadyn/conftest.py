"""A file with two runs and two models, written once: what every reader of these types meets."""

import pytest
from pynwb import NWBHDF5IO

from ndx_metadyn.testing.mock import mock_LatentDynamics, mock_NWBFile


@pytest.fixture(scope="session")
def mock_file(tmp_path_factory):
    """Path of an NWB file with runs LatentDynamics (per window) and LatentDynamicsPooled (per
    session), a model each."""
    path = tmp_path_factory.mktemp("mock") / "mock.nwb"
    nwbfile = mock_NWBFile()
    mock_LatentDynamics(nwbfile)
    mock_LatentDynamics(
        nwbfile,
        name="LatentDynamicsPooled",
        model_name="LatentDynamicsModelPooled",
        scope="session",
    )
    with NWBHDF5IO(str(path), "w") as io:
        io.write(nwbfile)
    return path


@pytest.fixture
def runs(mock_file):
    """The runs of that file by name, while it is open."""
    with NWBHDF5IO(str(mock_file), "r") as io:
        module = io.read().processing["ecephys"]
        yield {
            name: item
            for name, item in module.data_interfaces.items()
            if item.neurodata_type == "LatentDynamics"
        }
