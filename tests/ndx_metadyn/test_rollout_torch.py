"""The numpy rollout of what a file holds against the torch model that was put there. Tolerance: float32 over 40 steps."""

import itertools

import numpy as np
import pytest
from pynwb import NWBHDF5IO

from ndx_metadyn import LatentDynamicsModel, rollout
from ndx_metadyn.testing.mock import mock_NWBFile

torch = pytest.importorskip("torch")
N_UNITS, ROW, STEPS = [5, 9, 7], 2, 40


def trained_model(conditioning, likelihood):
    from metadyn.config import ModelConfig
    from metadyn.model.build import build_model
    from metadyn.model.trained import TrainedModel
    from metadyn.records import SessionEntry, Source

    config = ModelConfig(conditioning=conditioning, likelihood=likelihood, latent_dim=3, embedding_dim=2, rank=2)
    module = build_model(config, N_UNITS, seed=4)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel()))
    entries = tuple(SessionEntry(f"s{i}", n, tuple(range(n)), Source()) for i, n in enumerate(N_UNITS))
    return TrainedModel(module, config, 0.02, entries)


@pytest.mark.parametrize(
    ("conditioning", "likelihood"), list(itertools.product(("low_rank", "shared"), ("poisson", "gaussian")))
)
def test_rollout_from_the_file_agrees_with_torch_to_1e_5(conditioning, likelihood, tmp_path):
    trained = trained_model(conditioning, likelihood)
    stored, path, nwbfile = trained.file(), tmp_path / "m.nwb", mock_NWBFile()
    model = LatentDynamicsModel.from_safetensors(stored.weights, stored.config, "A model.", stored.architecture)
    assert model.digest == stored.digest
    nwbfile.create_processing_module("ecephys", "m").add(model)
    with NWBHDF5IO(str(path), "w") as io:
        io.write(nwbfile)

    embedding, latent = (torch.randn(1, 6, size, generator=torch.Generator().manual_seed(size)) for size in (2, 3))
    session = torch.tensor([ROW])
    with torch.no_grad():
        latents = trained.module.transition(embedding, session).rollout(latent, STEPS)
        rates = trained.module.likelihood(latents, session).mean[0, ..., : N_UNITS[ROW]] / trained.bin_width
    with NWBHDF5IO(str(path), "r") as io:
        ours = rollout(io.read().processing["ecephys"]["LatentDynamicsModel"], embedding[0], latent[0], STEPS, "s2")
    assert np.ptp(ours.latents.values) > 0.1
    np.testing.assert_allclose(ours.latents, latents[0], atol=1e-5)
    np.testing.assert_allclose(ours.rates, rates, rtol=1e-5, atol=1e-5 / trained.bin_width)
