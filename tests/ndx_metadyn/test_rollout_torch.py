"""The numpy rollout of what a file holds against the torch modules whose weights were put there."""

import itertools

import numpy as np
import pytest
from pynwb import NWBHDF5IO

from ndx_metadyn import LatentDynamicsModel, rollout
from ndx_metadyn.testing.mock import mock_NWBFile
from ndx_metadyn.weights import NoTwinError

torch = pytest.importorskip("torch")
N_UNITS, ROW, STEPS, BIN_WIDTH = [5, 9, 7], 2, 40, 0.02


def torch_model(**options):
    """A model of three sessions, every parameter moved off its starting value."""
    from metadyn.config import ModelConfig
    from metadyn.model.build import build_model
    from metadyn.model.trained import SharedLatents, TrainedModel
    from metadyn.records import SessionEntry, Source

    config = ModelConfig(**{"latent_dim": 3, "embedding_dim": 2, "rank": 2, **options})
    module = build_model(config, N_UNITS, seed=4)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.1 * torch.randn(
                parameter.shape, generator=torch.Generator().manual_seed(parameter.numel())
            )
        if config.residual:
            # small steps, or forty of them go to where an exponential rate has no digits left
            for parameter in module.dynamics.flow.output.parameters():
                parameter *= 0.1
    entries = tuple(
        SessionEntry(f"s{i}", n, tuple(range(n)), Source()) for i, n in enumerate(N_UNITS)
    )
    ones = np.ones(3, np.float32)
    shared = SharedLatents(ones, ones, (), np.zeros((0, 9, 3)), np.zeros((3, 3)), np.eye(3))
    return TrainedModel(module, config, BIN_WIDTH, entries, shared)


PAIRS = itertools.product(
    ("low_rank", "linear", "embedding_input", "shared"), ("poisson", "gaussian")
)
OPTIONS = [
    *[
        {"conditioning": conditioning, "likelihood": likelihood}
        for conditioning, likelihood in PAIRS
    ],
    {"residual": True},
    {"residual": True, "conditioning": "linear"},
    {"link": "softplus"},
    {"changed_layers": ("output",)},
    {"changed_layers": ("hidden",), "rank": 1},
    {"changed_layers": ("output", "hidden", "first"), "rank": 3, "hidden": (5, 4)},
    {"shared_noise": True},
]


@pytest.mark.parametrize(
    "options", OPTIONS, ids=lambda options: "-".join(map(str, options.values()))
)
def test_rollout_from_the_file_agrees_with_torch_to_1e_5(options, tmp_path):
    trained = torch_model(**options)
    module, file = trained.module, trained.file()
    model = LatentDynamicsModel.from_safetensors(
        file.weights, file.config, "A model.", file.architecture
    )
    path, nwbfile = tmp_path / "m.nwb", mock_NWBFile()
    nwbfile.create_processing_module("ecephys", "m").add(model)
    with NWBHDF5IO(str(path), "w") as io:
        io.write(nwbfile)

    embedding, latent = (
        torch.randn(1, 6, size, generator=torch.Generator().manual_seed(size)) for size in (2, 3)
    )
    session = torch.tensor([ROW])
    with torch.no_grad():
        latents = module.transition(embedding, session).rollout(latent, STEPS)
        rates = module.likelihood(latents, session).mean[0, ..., : N_UNITS[ROW]] / BIN_WIDTH
    with NWBHDF5IO(str(path), "r") as io:
        stored = io.read().processing["ecephys"]["LatentDynamicsModel"]
        ours = rollout(stored, embedding[0], latent[0], STEPS, "s2")
        noisy = rollout(stored, embedding[0], latent[0], STEPS, "s2", np.random.default_rng(0))
    first = (noisy.latents - ours.latents)[:, 0] / np.random.default_rng(0).standard_normal(
        (6, STEPS, 3)
    )[:, 0]
    sd = module.transition(embedding, session)(latent[:, :, None]).sd[0, :, 0].numpy(force=True)
    np.testing.assert_allclose(first, sd, rtol=1e-3)
    assert np.ptp(ours.latents.values) > 0.1
    np.testing.assert_allclose(ours.latents, latents[0], atol=1e-5)
    np.testing.assert_allclose(ours.rates, rates, rtol=1e-5, atol=1e-5 / BIN_WIDTH)


@pytest.mark.parametrize(
    ("axis", "word"), [("flows", "dynamics"), ("conditionings", "conditioning")]
)
def test_a_model_without_a_numpy_form_is_read_by_torch_and_numpy_says_so(
    axis, word, tmp_path, monkeypatch
):
    """As one that a later version has written: only its own package knows the formula."""
    from importlib import import_module

    from metadyn.model.trained import TrainedModel
    from metadyn.nwb.stored_model import add_model, read_model

    trained = torch_model(dynamics="linear", conditioning="linear")
    path, nwbfile = tmp_path / "m.nwb", mock_NWBFile()
    add_model(nwbfile, nwbfile.create_processing_module("ecephys", "m"), trained.file())
    with NWBHDF5IO(str(path), "w") as io:
        io.write(nwbfile)

    known = import_module(f"ndx_metadyn.rollout.{axis}")
    monkeypatch.delitem(
        getattr(known, f"NUMPY_{axis.upper()}"), trained.file().config["model"][word]
    )
    back = TrainedModel.from_file(read_model(path))
    ours, theirs = trained.module.state_dict(), back.module.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    with NWBHDF5IO(str(path), "r") as io:
        stored = io.read().processing["ecephys"]["LatentDynamicsModel"]
        with pytest.raises(NoTwinError, match=rf"{word}(?s:.*)metadyn, which needs torch"):
            rollout(stored, np.zeros(2), np.zeros(3), 5, "s0")
