"""The paper's presets: their sizes are the paper's, they train, and the command line knows them by
name."""

import pytest
import torch

import metadyn
from metadyn.config import load_config
from metadyn.model.build import build_model

# Parameters of the networks of App. D.3, added up by hand: an MLP's layer of a to b has a b + b;
# the hypernetwork's last layer makes (64 + 34) and (256 + 158) factors for each rank; GRUs of torch
# have 3 h (x + h + 2).
SIZES = {
    "paper-synthetic": {
        "dynamics.conditioning.hyper": (1 * 16 + 16) + (16 * 16 + 16) + 17 * 98 * 1,
        "dynamics": (2 * 32 + 32) + (32 * 32 + 32) + (32 * 2 + 2),
        "embedding_encoder": 3 * 16 * (8 + 16 + 2) + 16 * 2 + 2,
        "latent_encoder": 2 * 3 * 64 * (8 + 1 + 64 + 2) + 128 * 4 + 4,
        "readin": (40 * 64 + 64) + (64 * 8 + 8),
    },
    "paper-motor": {
        "dynamics.conditioning.hyper": (2 * 64 + 64) + (64 * 64 + 64) + 65 * 414 * 6,
        "dynamics": (30 * 128 + 128) + (128 * 128 + 128) + (128 * 30 + 30),
        "embedding_encoder": 3 * 64 * (64 + 64 + 2) + 64 * 4 + 4,
        "latent_encoder": 2 * 3 * 128 * (64 + 2 + 128 + 2) + 256 * 60 + 60,
        "readin": (40 * 128 + 128) + (128 * 64 + 64),
    },
}


@pytest.mark.parametrize("name", SIZES)
def test_networks_have_the_papers_sizes(name):
    model = build_model(load_config(data={"preset": name}).model, [40])
    found = dict.fromkeys(SIZES[name], 0)
    for parameter, value in model.named_parameters():
        part = next((each for each in found if parameter.startswith(each + ".")), None)
        if part:
            found[part] += value.numel()
    assert found == SIZES[name]


@pytest.mark.parametrize("name", SIZES)
def test_a_preset_of_the_paper_trains_on_simulated_sessions(name, tmp_path):
    """A few steps of the bare ELBO from a random start; with as many units as the motor model has
    latents."""
    config = load_config(data={"preset": name}, training={"steps": 3, "trials_per_session": 4})
    files = metadyn.simulate(
        "limit-cycle", tmp_path / "raw", n_sessions=2, units=(32, 36), n_trials=8, n_bins=40
    )
    sessions = [metadyn.bin_spikes(metadyn.read_session(file), smoothing=0.025) for file in files]
    told = []
    trained = metadyn.fit(sessions, None, config, report=told.append)
    terms = [each.terms for each in told if each.terms]
    assert {"kl_latent", "loss"} <= set(terms[-1])
    assert all(torch.isfinite(value).all() for value in trained.module.state_dict().values())
    assert metadyn.infer(trained, sessions[0])["rate_mean"].notnull().all()


def test_fit_knows_the_papers_preset_and_lists_it(run, world, tmp_path):
    small = ("--latent-hidden", 4, "--readin-hidden", 4, "--steps", 2)
    result = run(
        "fit", *world.files[:2], "-o", tmp_path / "model", "--preset", "paper-synthetic", *small
    )
    assert result.exit_code == 0, result.stderr
    model = metadyn.load_model(tmp_path / "model")
    assert (model.config.likelihood, model.config.embedding_dim, model.training.warm_start) == (
        "gaussian",
        1,
        False,
    )
    assert model.data == {"preset": "paper-synthetic"}
    assert "paper-synthetic" in run("fit", "--help").stdout


def test_an_unknown_preset_lists_those_there_are(run, world, tmp_path):
    result = run("fit", *world.files[:2], "-o", tmp_path / "model", "--preset", "paper-synthetics")
    assert result.exit_code == 2
    assert "--preset paper-synthetic" in result.stderr
    assert "paper-motor" in result.stderr
