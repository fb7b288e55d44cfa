"""Derived files of made-up runs: DANDI has nothing against `whole`, `bare` lacks what DANDI
needs."""

from types import SimpleNamespace

import h5py
import pytest
from pynwb import NWBHDF5IO

from metadyn.nwb.derive import derive
from ndx_metadyn.testing.mock import mock_LatentDynamics, mock_NWBFile


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sharing")
    nwbfile = mock_NWBFile()
    nwbfile.session_id = "day_1"
    mock_LatentDynamics(nwbfile)
    with NWBHDF5IO(folder / "annotated.nwb", "w") as io:
        io.write(nwbfile)
    whole, bare = (
        derive(folder / "annotated.nwb", folder / "whole.nwb"),
        derive(folder / "annotated.nwb", folder / "bare.nwb"),
    )
    with h5py.File(bare, "r+") as file:
        del file["general/session_id"]
        del file["general/subject/species"]
        del file["general/subject/age"]
        file["general/subject/sex"][()] = ""
        file["general/subject/strain"] = ""
    return SimpleNamespace(
        folder=folder, annotated=folder / "annotated.nwb", whole=whole, bare=bare
    )
