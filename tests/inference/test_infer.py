"""What `infer` gives: the same in chunks, rates that a Monte-Carlo road confirms, named and
measured in units."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import xarray as xr
from scipy.stats import lognorm

from metadyn.errors import DataError, ModelFileError
from metadyn.inference import encoding
from metadyn.inference.encoding import latent_posterior, observations, trial_embeddings
from metadyn.inference.forecast import sample_context
from metadyn.inference.infer import infer
from metadyn.inference.rates import posterior_rates
from metadyn.inference.session_embedding import (
    conditioning_embedding,
    expand_to_trials,
    with_embedding,
)
from metadyn.model.gaussian import Gaussian
from metadyn.model.readin import FEWEST


@pytest.mark.parametrize("pooling", ["mean", "trial", "product"])
def test_chunks_give_the_same_as_all_at_once(monkeypatch, trained, counts, pooling):
    model, data = trained(pooling=pooling), counts()
    whole = infer(model, data)
    monkeypatch.setattr(encoding, "CHUNK_BINS", 45)  # two trials of twenty bins at a time
    in_parts = infer(model, data)
    for name in whole:
        np.testing.assert_allclose(in_parts[name], whole[name], rtol=1e-5, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("options", [{}, {"likelihood": "gaussian"}, {"link": "softplus"}])
def test_rates_are_mean_and_sd_over_samples_of_the_latents(trained, counts, options):
    model, data = trained(**options), counts()
    result = infer(model, data)
    q_e = trial_embeddings(model, data)
    q = latent_posterior(
        model, data, expand_to_trials(conditioning_embedding(model, 1, q_e), q_e).mean
    )
    inside = np.arange(20) < data.windows.n_bins[:, None]
    z = q.mean[0].numpy() + q.sd[0].numpy() * np.random.default_rng(0).standard_normal(
        (4000, 6, 20, 2)
    )
    linear = z[:, inside] @ model.module.likelihood.weight[1].numpy(
        force=True
    ).T + model.module.likelihood.bias[1].numpy(force=True)
    links = {"gaussian": np.asarray, "softplus": lambda x: np.log1p(np.exp(x))}
    link = next((links[choice] for choice in options.values()), np.exp)
    draws = link(linear) / 0.05
    mean, sd = draws.mean(0), draws.std(0)
    error = sd / np.sqrt(4000)
    assert (np.abs(result["rate_mean"].values[inside] - mean) < 5 * error + 1e-4).all()
    np.testing.assert_allclose(result["rate_sd"].values[inside], sd, rtol=0.15)


def test_the_sd_of_a_rate_is_that_of_a_log_normal_also_where_the_posterior_is_wide(trained):
    """scipy's log-normal: of log rates of SD 1 the SD is 1.31 times the mean, not as much as it."""
    model = trained()
    q = Gaussian(torch.zeros(1, 1, 1, 2), torch.full((1, 1, 1, 2), 1.5))
    mean, sd = posterior_rates(model, 1, q, 2)
    weight, bias = (
        each[1, :2].numpy(force=True)
        for each in (model.module.likelihood.weight, model.module.likelihood.bias)
    )
    spread = np.exp(0.75) * np.linalg.norm(weight, axis=1)
    expected = lognorm(s=spread, scale=np.exp(bias))
    np.testing.assert_allclose(mean[0, 0], expected.mean() / model.bin_width, rtol=1e-4)
    np.testing.assert_allclose(sd[0, 0], expected.std() / model.bin_width, rtol=1e-4)


def test_latents_of_a_trial_do_not_depend_on_the_others_when_pooled_by_trial(trained, counts):
    model, data = trained(pooling="trial"), counts()
    together = infer(model, data)["latent_mean"].values
    for trial in range(data.n_trials):
        n_bins = data.windows.n_bins[trial]
        alone = replace(
            data.select([trial]),
            counts=data.counts[[trial], :n_bins],
            observed=data.observed[[trial], :n_bins],
        )
        np.testing.assert_allclose(
            infer(model, alone)["latent_mean"][0], together[trial, :n_bins], atol=1e-5
        )


def test_what_lies_behind_a_window_or_was_not_observed_is_not_seen(trained, counts):
    model, data = trained(), counts()
    other = replace(
        data, counts=np.where(data.observed[..., None], data.counts, 50).astype(np.uint8)
    )
    assert infer(model, data).identical(infer(model, other))


def test_values_are_nan_behind_a_windows_end_and_nowhere_else(trained, counts):
    data = counts()
    result = infer(trained(), data)
    inside = np.arange(20) < data.windows.n_bins[:, None]
    for name in ("latent_mean", "latent_sd", "rate_mean", "rate_sd"):
        assert (result[name].notnull().values == inside[..., None]).all(), name


def test_the_result_says_what_it_is(trained, counts):
    data = counts()
    result = infer(trained(), data)
    assert {name: variable.dims for name, variable in result.data_vars.items()} == {
        "latent_mean": ("trial", "time", "latent"),
        "latent_sd": ("trial", "time", "latent"),
        "rate_mean": ("trial", "time", "unit"),
        "rate_sd": ("trial", "time", "unit"),
        "embedding_mean": ("trial", "embedding"),
        "embedding_sd": ("trial", "embedding"),
        "trial_embedding_mean": ("trial", "embedding"),
        "session_embedding_mean": ("embedding",),
        "session_embedding_sd": ("embedding",),
        "observed": ("trial", "time"),
    }
    np.testing.assert_allclose(result["time"], (np.arange(20) + 0.5) * 0.05)
    assert result["time"].units == result["start_time"].units == "s"
    assert result["rate_mean"].units == result["rate_sd"].units == "Hz"
    np.testing.assert_array_equal(result["unit"], data.unit_rows)
    np.testing.assert_array_equal(result["start_time"], data.windows.start)
    np.testing.assert_array_equal(result["trial_row"], data.windows.row)
    assert result.attrs == {
        "session": "b", "bin_width": 0.05, "table": "trials", "estimate": "smoothed", "embedding_scope": "session",
    }  # fmt: skip
    assert infer(trained(pooling="trial"), data).embedding_scope == "window"


def test_the_sessions_embedding_is_the_mean_over_trials(trained, counts):
    model, data = trained(), counts()
    result = infer(model, data)
    mean = np.mean([result["trial_embedding_mean"][trial] for trial in range(data.n_trials)], 0)
    np.testing.assert_allclose(result["session_embedding_mean"], mean, rtol=1e-5)
    np.testing.assert_allclose(result["embedding_mean"], np.broadcast_to(mean, (6, 2)), rtol=1e-5)
    q = trial_embeddings(model, data)
    np.testing.assert_allclose(
        result["session_embedding_sd"], q.sd[0].square().mean(0).sqrt(), rtol=1e-5
    )


def test_the_sessions_embedding_is_the_product_over_trials_where_it_conditions_them(
    trained, counts
):
    """Densities of the trials on a grid, multiplied, over the prior's N − 1 times: of the first
    dimension, by sums."""
    model, data = trained(pooling="product"), counts()
    result, q = infer(model, data), trial_embeddings(model, data)
    grid = np.linspace(-4, 4, 80_001)
    log_density = (data.n_trials - 1) * 0.5 * grid**2
    for mean, sd in zip(
        q.mean[0, :, 0].double().numpy(), q.sd[0, :, 0].double().numpy(), strict=True
    ):
        log_density -= 0.5 * ((grid - mean) / sd) ** 2
    density = np.exp(log_density - log_density.max())
    mean = (grid * density).sum() / density.sum()
    sd = np.sqrt(((grid - mean) ** 2 * density).sum() / density.sum())
    np.testing.assert_allclose(result["session_embedding_mean"][0], mean, rtol=1e-3)
    np.testing.assert_allclose(result["session_embedding_sd"][0], sd, rtol=1e-3)
    assert sd < q.sd[0, :, 0].min()
    np.testing.assert_allclose(result["embedding_mean"][:, 0], mean, rtol=1e-3)
    np.testing.assert_allclose(result["embedding_sd"][:, 0], sd, rtol=1e-3)
    assert result.embedding_scope == "session"


def test_a_sessions_embedding_stays_as_its_training_left_it_and_as_sure(trained, counts):
    """Mean and SD of the entry are those of what conditions the trials, and of draws for
    forecasts."""
    model, data = trained(), counts()
    known = replace(model.sessions[1], embedding_mean=(0.7, -1.2), embedding_sd=(0.1, 0.5))
    model = replace(model, sessions=(model.sessions[0], known))
    result = infer(model, data)
    for name, value in (("mean", [0.7, -1.2]), ("sd", [0.1, 0.5])):
        np.testing.assert_allclose(result[f"session_embedding_{name}"], value, rtol=1e-6)
        np.testing.assert_allclose(result[f"embedding_{name}"], np.tile(value, (6, 1)), rtol=1e-6)
    drawn = sample_context(model, data, 8, 4000, seed=1).embedding[:, 0].numpy()
    np.testing.assert_allclose(drawn.mean(0), [0.7, -1.2], atol=0.04)
    np.testing.assert_allclose(drawn.std(0), [0.1, 0.5], rtol=0.06)


def test_an_unknown_session_other_units_or_other_bins_are_refused(trained, counts):
    model, data = trained(), counts()
    with pytest.raises(ModelFileError, match=r"'c'(?s:.*)a, b"):
        infer(model, data.select(session="c"))
    with pytest.raises(DataError, match="4 units, not 5"):
        infer(model, data.select(units=slice(4)))
    with pytest.raises(DataError, match=r"0\.01 s, not 0\.05 s"):
        infer(model, replace(data, windows=replace(data.windows, bin_width=0.01)))


def lossy(data):
    """Units 1 and 3 lost from the middle of each window on, and some bins of all."""
    entries = np.repeat(data.observed[..., None], data.n_units, -1)
    entries[:, 8:, [1, 3]] = False
    return replace(data, counts=data.counts * entries, unit_observed=entries)


def test_what_stands_in_missing_entries_changes_nothing(trained, counts):
    data = lossy(counts())
    other = replace(data, counts=np.where(data.unit_observed, data.counts, 7).astype(np.uint8))
    silent = replace(data, unit_observed=None)
    one, two, three = (infer(trained(), each) for each in (data, other, silent))
    xr.testing.assert_allclose(one, two)
    assert not np.allclose(one.latent_mean, three.latent_mean, equal_nan=True)


def test_an_entry_that_is_missing_is_one_that_is_hidden(trained, counts):
    """Lost units are to the encoders as hidden ones, but that the rest of each bin stands for
    all."""
    model, data = trained(), lossy(counts(ragged=False))
    seen = observations(model.module, data, 1, slice(0, 2))
    whole = observations(
        model.module, replace(data, unit_observed=None), 1, slice(0, 2), visible=data.unit_observed
    )
    assert torch.equal(seen.visible.entries, whole.visible.entries)
    share = (data.unit_observed[:2].mean(-1) + FEWEST) / (1 + FEWEST)
    np.testing.assert_allclose(seen.visible.share[0], share, rtol=1e-6)
    both = observations(
        model.module, data, 1, slice(0, 2), visible=np.arange(5) < np.full((6, 20, 1), 4)
    )
    assert not both.visible.entries[..., 4].any()
    np.testing.assert_allclose(both.visible.share[0], 0.8 * share, rtol=1e-6)


def test_the_result_says_what_was_observed_of_which_unit(trained, counts):
    data = lossy(counts())
    result = infer(trained(), data)
    np.testing.assert_array_equal(result.observed, data.observed)
    np.testing.assert_array_equal(result.unit_observed, data.unit_observed)
    assert (
        result.rate_mean.values[data.observed].min() > 0
    )  # also of lost units: inferred from the others
    assert "unit_observed" not in infer(trained(), counts())


def test_a_session_met_anew_has_the_embedding_that_its_trials_tell_whatever_it_had_before(
    trained, counts
):
    model, data = trained(), counts()
    known = replace(model.sessions[1], embedding_mean=(0.7, -1.2), embedding_sd=(0.1, 0.5))
    found = with_embedding(replace(model, sessions=(model.sessions[0], known)), data).sessions
    told = infer(model, data)
    np.testing.assert_allclose(found[1].embedding_mean, told["session_embedding_mean"], rtol=1e-6)
    np.testing.assert_allclose(found[1].embedding_sd, told["session_embedding_sd"], rtol=1e-6)
    assert found[0] == model.sessions[0]
