"""Files of every released schema are read for ever. The numbers here were written down with the
file, and stay."""

import gzip
from pathlib import Path

import numpy as np
import pytest
from pynwb import NWBHDF5IO, validate

from ndx_metadyn import LatentDynamics, rollout

FILES = sorted(Path(__file__).parent.glob("*.nwb.gz"))


@pytest.fixture(params=FILES, ids=lambda path: path.name)
def old_file(request, tmp_path):
    path = tmp_path / request.param.stem
    path.write_bytes(gzip.decompress(request.param.read_bytes()))
    return path


def test_there_is_a_file_of_this_version_and_it_is_small():
    assert "metadyn_0_1_0.nwb.gz" in [path.name for path in FILES]
    assert all(path.stat().st_size < 100_000 for path in FILES)


def test_old_file_has_no_validation_error(old_file):
    assert validate(path=str(old_file)) == []


def test_old_file_reads_with_the_numbers_it_was_written_with(old_file):
    with NWBHDF5IO(str(old_file), "r") as io:
        module = io.read().processing["ecephys"]
        run = module["LatentDynamics"]
        assert isinstance(run, LatentDynamics)
        views = run.to_xarray()
        np.testing.assert_allclose(
            views["LatentSeries"].latents[0], [0.1257302, -0.1321049], rtol=1e-5
        )
        np.testing.assert_allclose(
            views["embeddings"].embedding_mean[0], [0.1890534, -0.5227485], rtol=1e-5
        )
        assert views["FiringRateSeries"].unit.values.tolist() == [106, 105, 104, 103, 102]
        assert module["LatentDynamicsPooled"].embeddings.session_embedding[0].shape == (2,)


def test_old_model_still_verifies_and_runs_to_the_same_numbers(old_file):
    with NWBHDF5IO(str(old_file), "r") as io:
        model = io.read().processing["ecephys"]["LatentDynamics"].model
        model.verify()
        ahead = rollout(model, [0.5, -0.5], [1.0, -1.0], 3, "mock-1")
    np.testing.assert_allclose(ahead.latents.values[0, -1], [2.00305213, 0.1277523], rtol=1e-7)
    np.testing.assert_allclose(
        ahead.rates.values[0, -1, :3], [11.84619538, 29.82761348, 20.9628301], rtol=1e-7
    )
