"""A session's embedding: of its trials together, or as its training left it."""

from dataclasses import replace

import numpy as np

from metadyn.inference.encoding import trial_embeddings
from metadyn.inference.forecast import sample_context
from metadyn.inference.infer import infer
from metadyn.inference.session_embedding import (
    with_embedding,
)


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


def test_a_session_met_anew_has_the_embedding_that_its_trials_tell_whatever_it_had_before(
    trained, counts
):
    model, data = trained(), counts()
    known = replace(model.sessions[1], embedding_mean=(0.7, -1.2), embedding_sd=(0.1, 0.5))
    found = with_embedding(replace(model, sessions=(model.sessions[0], known)), data).sessions
    inferred = infer(model, data)
    np.testing.assert_allclose(
        found[1].embedding_mean, inferred["session_embedding_mean"], rtol=1e-6
    )
    np.testing.assert_allclose(found[1].embedding_sd, inferred["session_embedding_sd"], rtol=1e-6)
    assert found[0] == model.sessions[0]
