"""The numpy rollout against a second road: one trial, one bin, one weight matrix at a time, the
low-rank change made dense."""

import itertools

import numpy as np
import pytest
import xarray as xr

from ndx_metadyn import LatentDynamicsModel, WeightsError, rollout
from ndx_metadyn.testing.mock import (
    BIN_WIDTH,
    mock_LatentDynamicsModel,
    mock_settings,
    mock_tensors,
)

KINDS = list(itertools.product(("low_rank", "shared"), ("poisson", "gaussian")))
RNG = np.random.default_rng(3)
EMBEDDINGS, LATENTS = RNG.normal(size=(3, 2)), RNG.normal(size=(3, 2))


def dense_weights(tensors, settings, e):
    """W_in and W_hidden of one embedding, with U V' formed."""
    w_in, w_hidden = (
        tensors["dynamics.weight_in"].astype(float),
        tensors["dynamics.weight_hidden"].astype(float),
    )
    if settings["model"]["conditioning"] == "shared":
        return w_in, w_hidden
    g = [
        (
            tensors[f"dynamics.hyper.{i}.weight"].astype(float),
            tensors[f"dynamics.hyper.{i}.bias"].astype(float),
        )
        for i in (0, 2, 4)
    ]
    flat = g[2][0] @ np.tanh(g[1][0] @ np.tanh(g[0][0] @ e + g[0][1]) + g[1][1]) + g[2][1]
    (h1, h2), latent, rank = (
        settings["model"]["hidden"],
        settings["model"]["latent_dim"],
        settings["model"]["rank"],
    )
    factors, at = [], 0
    for dim in (h1, latent, h2, h1):
        factors.append(
            np.array([[flat[at + i * rank + r] for r in range(rank)] for i in range(dim)])
        )
        at += dim * rank
    assert at == len(flat)
    return w_in + factors[0] @ factors[1].T, w_hidden + factors[2] @ factors[3].T


def plain_rollout(tensors, settings, e, z, n_steps, row):
    w_in, w_hidden = dense_weights(tensors, settings, e)
    n_units = settings["sessions"][row]["n_units"]
    latents, rates = [], []
    for _ in range(n_steps):
        x = np.tanh(w_in @ z + tensors["dynamics.bias_in"])
        x = np.tanh(w_hidden @ x + tensors["dynamics.bias_hidden"])
        z = tensors["dynamics.weight_out"] @ x + tensors["dynamics.bias_out"]
        drive = (
            tensors["likelihood.weight"][row, :n_units] @ z
            + tensors["likelihood.bias"][row, :n_units]
        )
        counts = np.exp(drive) if settings["model"]["likelihood"] == "poisson" else drive
        latents.append(z)
        rates.append(counts / settings["bin_width"])
    return np.array(latents), np.array(rates)


@pytest.mark.parametrize(("conditioning", "likelihood"), KINDS)
@pytest.mark.parametrize("row", [0, 1])
def test_rollout_equals_a_plain_loop_over_dense_matrices(conditioning, likelihood, row):
    kind = {"conditioning": conditioning, "likelihood": likelihood}
    settings = mock_settings(**kind)
    tensors = mock_tensors(settings)
    found = rollout(mock_LatentDynamicsModel(**kind), EMBEDDINGS, LATENTS, 7, f"mock-{row}")
    for trial in range(3):
        latents, rates = plain_rollout(tensors, settings, EMBEDDINGS[trial], LATENTS[trial], 7, row)
        np.testing.assert_allclose(found.latents[trial], latents, atol=1e-12)
        np.testing.assert_allclose(found.rates[trial], rates, rtol=1e-12, atol=1e-12)
    assert found.sizes["unit"] == settings["sessions"][row]["n_units"]


def test_times_are_seconds_after_the_last_context_bin():
    found = rollout(mock_LatentDynamicsModel(), EMBEDDINGS, LATENTS, 4, "mock-0")
    np.testing.assert_allclose(found.time, [BIN_WIDTH, 2 * BIN_WIDTH, 3 * BIN_WIDTH, 4 * BIN_WIDTH])
    assert (found.time.attrs["units"], found.rates.attrs["units"]) == ("s", "Hz")
    assert found.rates.dims == ("trial", "time", "unit")


def test_one_embedding_serves_all_trials_and_the_embedding_matters():
    model = mock_LatentDynamicsModel()
    one = rollout(model, EMBEDDINGS[0], LATENTS, 5, "mock-0")
    xr.testing.assert_allclose(
        one, rollout(model, EMBEDDINGS[[0, 0, 0]], LATENTS, 5, "mock-0"), rtol=1e-12
    )
    xr.testing.assert_allclose(
        one.isel(trial=[1]), rollout(model, EMBEDDINGS[0], LATENTS[1], 5, "mock-0"), rtol=1e-12
    )
    assert not np.allclose(one.latents, rollout(model, EMBEDDINGS[1], LATENTS, 5, "mock-0").latents)


def test_shared_dynamics_need_no_embedding():
    model = mock_LatentDynamicsModel(conditioning="shared")
    assert rollout(model, None, LATENTS, 5, "mock-0").equals(
        rollout(model, EMBEDDINGS, LATENTS, 5, "mock-0")
    )


def test_sample_paths_repeat_with_their_seed_and_spread_as_the_process_noise():
    model, settings = mock_LatentDynamicsModel(), mock_settings()
    latent = np.repeat(LATENTS[:1], 4000, axis=0)
    paths = rollout(model, EMBEDDINGS[0], latent, 1, "mock-1", np.random.default_rng(0))
    assert paths.equals(
        rollout(model, EMBEDDINGS[0], latent, 1, "mock-1", np.random.default_rng(0))
    )
    variance = np.exp(mock_tensors(settings)["log_q"][1])
    np.testing.assert_allclose(paths.latents.var("trial")[0], variance, rtol=0.1)
    mean = rollout(model, EMBEDDINGS[0], LATENTS[0], 1, "mock-1").latents[0, 0]
    np.testing.assert_allclose(
        paths.latents.mean("trial")[0], mean, atol=4 * np.sqrt(variance.max() / 4000)
    )


def test_calibrated_noise_widens_sample_paths_and_leaves_the_mean():
    plain, wide = (
        altered(lambda s, t, scale=scale: s["sessions"][1].update(noise_scale=scale))
        for scale in (1.0, 3.0)
    )
    mean = rollout(plain, EMBEDDINGS[0], LATENTS, 1, "mock-1")
    assert mean.equals(rollout(wide, EMBEDDINGS[0], LATENTS, 1, "mock-1"))
    first, second = (
        rollout(each, EMBEDDINGS[0], LATENTS, 1, "mock-1", np.random.default_rng(0)).latents
        - mean.latents
        for each in (plain, wide)
    )
    np.testing.assert_allclose(second, 3 * first, rtol=1e-9)


def test_unknown_session_lists_those_there_are():
    with pytest.raises(WeightsError, match="one of 'mock-0', 'mock-1'"):
        rollout(mock_LatentDynamicsModel(), EMBEDDINGS, LATENTS, 3, "mock-2")


@pytest.mark.parametrize(
    ("embedding", "latent", "message"),
    [
        (np.zeros(3), np.zeros(2), r"embedding must be finite and \(2,\)"),
        (np.zeros(2), np.zeros((1, 1, 2)), r"latent must be finite and \(2,\)"),
        (np.zeros(2), [np.nan, 0.0], "latent must be finite"),
        (np.zeros((2, 2)), np.zeros((3, 2)), "3 trials and embedding 2"),
    ],
)
def test_states_of_another_shape_are_refused(embedding, latent, message):
    with pytest.raises(ValueError, match=message):
        rollout(mock_LatentDynamicsModel(), embedding, latent, 3, "mock-0")


def altered(change, conditioning="low_rank"):
    """A model whose config was changed after its weights were made."""
    from safetensors.numpy import save

    settings = mock_settings(conditioning=conditioning)
    tensors = mock_tensors(settings)
    change(settings, tensors)
    return LatentDynamicsModel.from_safetensors(save(tensors), settings, "d", "MetaSSM")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s, t: t.pop("log_q"), "'log_q' does not fit"),
        (lambda s, t: s["model"].update(rank=3), r"'dynamics.hyper.4.weight' does not fit"),
        (lambda s, t: s["model"].update(hidden=[6, 10**9]), "does not fit"),
        (lambda s, t: s["model"].update(hidden=[6]), "no positive integer"),
        (lambda s, t: s["model"].update(conditioning="quadratic"), "unknown conditioning"),
        (lambda s, t: s["model"].update(latent_dim=-1), "no positive integer"),
        (lambda s, t: s["model"].pop("likelihood"), "lacks a setting"),
        (lambda s, t: s["sessions"].clear(), "no session"),
        (lambda s, t: s["sessions"][0].update(n_units=99), r"'likelihood.weight' does not fit"),
        (lambda s, t: s.update(format=3), "unknown format"),
        (lambda s, t: s.update(bin_width="wide"), "wrong kind"),
        (lambda s, t: s.update(bin_width=10**400), "wrong kind"),
        (lambda s, t: s["sessions"][0].update(noise_scale="loud"), "wrong kind"),
        (lambda s, t: s["sessions"][1].update(noise_scale=-1.0), "noise_scale is no size"),
        (lambda s, t: s["model"].update(conditioning=["low_rank"]), "unknown conditioning"),
        (lambda s, t: s["model"].update(link="cloglog"), "unknown link"),
        (lambda s, t: s["model"].update(residual="no"), "residual is no truth value"),
        (lambda s, t: s["model"].update(shared_noise=True), "'log_q' does not fit"),
        (
            lambda s, t: s["model"].update(changed_layers=["input", "readout"]),
            "unknown changed_layers",
        ),
        (
            lambda s, t: s["model"].update(changed_layers=["input"]),
            r"'dynamics.hyper.4.weight' does not fit",
        ),
    ],
)
def test_config_and_tensors_that_disagree_are_refused(change, message):
    with pytest.raises(WeightsError, match=message):
        rollout(altered(change), EMBEDDINGS, LATENTS, 3, "mock-0")
