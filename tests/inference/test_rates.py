"""Rates from latents, which a Monte-Carlo road and scipy's log-normal confirm."""

import numpy as np
import pytest
import torch
from scipy.stats import lognorm

from metadyn.inference.encoding import latent_posterior, trial_embeddings
from metadyn.inference.infer import infer
from metadyn.inference.rates import posterior_rates
from metadyn.inference.session_embedding import (
    conditioning_embedding,
    expand_to_trials,
)
from metadyn.model.gaussian import Gaussian


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
