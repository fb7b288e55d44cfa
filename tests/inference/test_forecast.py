"""Forecasts: nothing behind the context is seen; samples have the spread that the process noise
gives."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from metadyn.errors import WindowError
from metadyn.inference.encoding import latent_posterior, trial_embeddings
from metadyn.inference.forecast import default_context, forecast, sample_context
from metadyn.inference.infer import infer
from metadyn.inference.session_embedding import conditioning_embedding
from metadyn.model.dynamics import Transition

SEEN = {"context": 8, "steps": 5}


@pytest.mark.parametrize("pooling", ["mean", "trial", "product"])
def test_a_forecast_depends_on_context_bins_alone(trained, counts, pooling):
    model, data = trained(pooling=pooling), counts()
    later = data.counts.copy()
    later[:, 8:] = 60
    other = replace(data, counts=later, observed=data.observed | (np.arange(20) >= 8))
    one, two = forecast(model, data, samples=3, **SEEN), forecast(model, other, samples=3, **SEEN)
    assert one.drop_vars("n_bins").identical(two.drop_vars("n_bins"))


def test_a_forecast_depends_on_the_last_context_bin(trained, counts):
    data = counts(ragged=False)
    changed = data.counts.copy()
    changed[:, 7] += 5
    one, two = (forecast(trained(), each, **SEEN) for each in (data, replace(data, counts=changed)))
    assert (one["latent_mean"] != two["latent_mean"]).all()


@pytest.mark.parametrize("link", ["exp", "softplus"])
def test_the_mean_path_is_the_dynamics_from_the_last_context_state(trained, counts, link):
    """The context cut out and inferred as if there were nothing more, then f again and again."""
    model, data = trained(link=link), counts()
    context = replace(
        data,
        counts=data.counts[:, :8],
        observed=data.observed[:, :8],
        windows=replace(data.windows, n_bins=np.full(6, 8)),
    )
    inferred = infer(model, context)
    result = forecast(model, data, **SEEN)
    state = torch.as_tensor(inferred["latent_mean"].values[:, -1])
    np.testing.assert_allclose(result["context_latent"], state, atol=1e-5)
    embedding = torch.as_tensor(inferred["embedding_mean"].values)[None]
    transition = model.module.transition(embedding, torch.tensor([1]))
    likelihood = model.module.likelihood
    for step in range(5):
        state = transition.mean(state[None, :, None])[0, :, 0].detach()
        np.testing.assert_allclose(result["latent_mean"][:, step], state, atol=1e-5)
        counts_a_bin = torch.exp(state @ likelihood.weight[1].T + likelihood.bias[1]).detach()
        rate = (counts_a_bin if link == "exp" else counts_a_bin.log1p()) / 0.05
        np.testing.assert_allclose(result["rate_mean"][:, step], rate, rtol=1e-4)


@pytest.mark.parametrize("pooling", ["mean", "trial", "product"])
def test_the_embedding_used_has_its_own_spread(trained, counts, pooling):
    """The session's SD where one embedding serves all trials, the trial's where each has its own:
    as in `infer`."""
    data = counts(ragged=False)
    result, inferred = (
        forecast(trained(pooling=pooling), data, context=20, steps=1),
        infer(trained(pooling=pooling), data),
    )
    for name in ("embedding_mean", "embedding_sd", "session_embedding_sd"):
        np.testing.assert_allclose(result[name], inferred[name], rtol=1e-4, err_msg=name)


def test_times_are_those_behind_the_context(trained, counts):
    result = forecast(trained(), counts(), **SEEN)
    np.testing.assert_allclose(result["time"], (8 + np.arange(5) + 0.5) * 0.05)
    assert (result.estimate, result.context_bins) == ("forecast", 8)
    assert result["rate_mean"].units == "Hz"


@torch.no_grad()
def still(model, log_q):
    """q(e) and q(z) of hardly any variance, process noise as given."""
    for encoder, dim in ((model.module.embedding_encoder, 2), (model.module.latent_encoder, 2)):
        encoder.head.weight[dim:] = 0
        encoder.head.bias[dim:] = -40.0
    model.module.log_q[:] = torch.as_tensor(log_q)
    return model


def test_samples_without_noise_are_the_mean(trained, counts):
    result = forecast(still(trained(), -40.0), counts(), samples=3, **SEEN)
    for sample in range(3):
        np.testing.assert_allclose(
            result["latent_samples"][sample], result["latent_mean"], atol=1e-5
        )
        np.testing.assert_allclose(result["rate_samples"][sample], result["rate_mean"], rtol=1e-4)


def test_the_spread_of_one_step_is_the_process_noise(trained, counts):
    """20 samples of 120 trials about their means: the SD of an SD is 1 / √(2 · 2400) = 1.5 %."""
    q = np.array([0.04, 0.25])
    result = forecast(
        still(trained(), np.log(q)), counts(n_trials=120), context=8, steps=1, samples=20
    )
    deviations = (result["latent_samples"] - result["latent_mean"]).values.reshape(-1, 2)
    np.testing.assert_allclose(deviations.std(0), np.sqrt(q), rtol=0.07)
    assert (np.abs(deviations.mean(0)) < 5 * np.sqrt(q / 2400)).all()


def test_the_spread_in_the_result_is_that_of_its_samples(trained, counts):
    result = forecast(trained(), counts(), samples=7, **SEEN)
    assert result["latent_samples"].dims == ("sample", "trial", "time", "latent")
    assert result["rate_samples"].dims == ("sample", "trial", "time", "unit")
    np.testing.assert_allclose(
        result["latent_sd"], result["latent_samples"].values.std(0, ddof=1), rtol=1e-4
    )
    np.testing.assert_allclose(
        result["rate_sd"], result["rate_samples"].values.std(0, ddof=1), rtol=1e-4
    )


@pytest.mark.parametrize("pooling", ["mean", "trial"])
def test_samples_are_paths_of_the_dynamics_of_their_own_embedding(trained, counts, pooling):
    """Without process noise, bin by bin from each sample's own draw of embedding and state."""
    model, data = trained(pooling=pooling), counts()
    with torch.no_grad():
        model.module.log_q[:] = -40.0
    conditioning = conditioning_embedding(model, 1, trial_embeddings(model, data, 8))
    drawn = sample_context(model, data, 8, 3, seed=0, conditioning=conditioning)
    result = forecast(model, data, samples=3, **SEEN)
    for sample in range(3):
        for trial in range(6):
            embedding = drawn.embedding[sample, min(trial, drawn.embedding.shape[1] - 1)]
            transition = model.module.transition(embedding[None, None], torch.tensor([1]))
            state = drawn.state[sample, trial][None, None, None]
            for step in range(5):
                state = transition.mean(state).detach()
                np.testing.assert_allclose(
                    result["latent_samples"][sample, trial, step], state.flatten(), atol=1e-4
                )


@pytest.mark.parametrize("pooling", ["mean", "trial"])
def test_states_are_drawn_round_what_the_encoder_tells_of_each_embedding(
    trained, counts, pooling, monkeypatch
):
    """A trial and a sample at a time; also where trials do not fit into one piece."""
    model, data = trained(pooling=pooling), counts()
    with torch.no_grad():
        model.module.latent_encoder.head.weight[2:] = 0
        model.module.latent_encoder.head.bias[2:] = -40.0
    monkeypatch.setattr("metadyn.inference.forecast.CHUNK_BINS", 40)
    conditioning = conditioning_embedding(model, 1, trial_embeddings(model, data, 8))
    drawn = sample_context(model, data, 8, 3, seed=0, conditioning=conditioning)
    for sample in range(3):
        for trial in range(6):
            embedding = drawn.embedding[sample, min(trial, drawn.embedding.shape[1] - 1)]
            q = latent_posterior(model, data.select([trial]), embedding[None, None], 8)
            np.testing.assert_allclose(drawn.state[sample, trial], q.mean[0, 0, 7], atol=1e-5)


@pytest.mark.parametrize("pooling", ["mean", "trial"])
def test_draws_for_a_forecast_know_the_context_alone(trained, counts, pooling):
    model, data = trained(pooling=pooling), counts()
    behind = np.arange(20) >= 8
    garbled = replace(
        data, counts=np.where(behind[:, None], 60, data.counts), observed=data.observed | behind
    )
    one, two = (sample_context(model, each, 8, 3, seed=0) for each in (data, garbled))
    assert torch.equal(one.embedding, two.embedding)
    assert torch.equal(one.state, two.state)


def test_process_noise_repeats_none_of_the_numbers_that_embedding_and_state_were_drawn_with(
    trained, counts
):
    """One embedding a trial, of as many dimensions as latents: all draws of a forecast could be the
    same numbers."""
    model, data = trained(pooling="trial"), counts(n_trials=30)
    result = forecast(model, data, context=8, steps=1, samples=20)
    q = conditioning_embedding(model, 1, trial_embeddings(model, data, 8))
    drawn = sample_context(model, data, 8, 20, seed=0, conditioning=q)
    mean = model.module.transition(drawn.embedding, torch.ones(20, dtype=torch.long)).rollout(
        drawn.state, 1
    )
    noise = result["latent_samples"].values[:, :, 0] - mean[:, :, 0].numpy(force=True)
    q_z = latent_posterior(model, data, drawn.embedding[:1], 8)
    of_embedding = ((drawn.embedding - q.mean) / q.sd).numpy(force=True)
    of_state = ((drawn.state[0] - q_z.mean[0, :, 7]) / q_z.sd[0, :, 7]).numpy(force=True)
    for one, other in ((noise, of_embedding), (noise[0], of_state), (of_embedding[0], of_state)):
        correlation = np.corrcoef(one.reshape(-1), other.reshape(-1))[0, 1]
        assert abs(correlation) < 4.5 / one.size**0.5


def test_samples_follow_their_seed(trained, counts):
    one, same, other = (
        forecast(trained(), counts(), samples=2, seed=seed, **SEEN) for seed in (4, 4, 5)
    )
    assert one.identical(same)
    assert not np.allclose(one["latent_samples"], other["latent_samples"])


def test_an_embedding_given_takes_the_place_of_the_inferred_one(trained, counts):
    model, data = trained(), counts()
    inferred = forecast(model, data, **SEEN)
    same = forecast(model, data, embedding=inferred["session_embedding_mean"].values, **SEEN)
    other = forecast(model, data, embedding=np.array([3.0, -3.0]), **SEEN)
    np.testing.assert_allclose(same["latent_mean"], inferred["latent_mean"], atol=1e-5)
    assert not np.allclose(other["latent_mean"], inferred["latent_mean"], atol=1e-3)
    np.testing.assert_allclose(other["embedding_mean"], np.broadcast_to([3.0, -3.0], (6, 2)))


def test_by_default_a_third_of_the_median_window_is_the_context(counts):
    data = counts()
    for n_bins, context in (([20, 3, 3, 14, 16, 20], 5), ([20, 1, 1, 2, 2, 2], 1), ([20] * 6, 6)):
        assert (
            default_context(replace(data, windows=replace(data.windows, n_bins=np.array(n_bins))))
            == context
        )


def test_the_noise_of_a_sessions_samples_is_as_many_times_as_loud_as_its_entry_says(
    trained, counts
):
    """SD of one step of both sessions, the other's factor left alone."""
    q, data = np.array([0.04, 0.25]), counts(n_trials=120)
    model = still(trained(), np.log(q))
    entries = (
        replace(model.sessions[0], noise_scale=9.0),
        replace(model.sessions[1], noise_scale=0.5),
    )
    result = forecast(replace(model, sessions=entries), data, context=8, steps=1, samples=20)
    deviations = (result["latent_samples"] - result["latent_mean"]).values.reshape(-1, 2)
    np.testing.assert_allclose(deviations.std(0), 0.5 * np.sqrt(q), rtol=0.07)


def test_an_embedding_that_is_given_is_not_in_doubt(trained, counts):
    result = forecast(trained(), counts(), embedding=np.array([0.3, -0.4]), samples=3, **SEEN)
    assert (result["embedding_sd"] < 1e-6).all()
    np.testing.assert_allclose(result["session_embedding_mean"], [0.3, -0.4], rtol=1e-6)


@pytest.mark.parametrize("context", [0, 21])
def test_a_context_longer_than_every_window_is_refused_with_a_remedy_that_works(
    trained, counts, context
):
    with pytest.raises(WindowError, match="context=") as refused:
        forecast(trained(), counts(), context=context, steps=2)
    forecast(trained(), counts(), steps=2, **refused.value.options)


def test_windows_shorter_than_the_context_are_left_out_and_counted(trained, counts):
    """The others' forecasts are those that they have without the short ones."""
    data = counts()
    long = np.array([n >= 17 for n in data.windows.n_bins])
    assert 0 < long.sum() < 6
    with pytest.warns(
        UserWarning, match=f"{6 - long.sum()} of 6 windows of b are shorter than the 17 bins"
    ):
        result = forecast(trained(), data, context=17, steps=2)
    alone = forecast(trained(), data.select(trials=long), context=17, steps=2)
    assert result.drop_vars("trial").identical(alone.drop_vars("trial"))
    assert result.trial.values.tolist() == [trial for trial in range(6) if long[trial]]


def test_states_of_a_forecast_go_to_the_bins_after_the_context(trained, counts, monkeypatch):
    """The mean path and the sampled ones: by these bins a transition looks up its inputs."""
    bins = []
    mean = Transition.mean

    def noted(transition, z, at=None):
        bins.append(at)
        return mean(transition, z, at)

    monkeypatch.setattr(Transition, "mean", noted)
    forecast(trained(), counts(), samples=2, **SEEN)
    assert bins == [slice(t, t + 1) for t in [*range(8, 13), *range(8, 13)]]
