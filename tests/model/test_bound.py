"""With linear dynamics and Gaussian noise the likelihood is known: a Kalman filter in numpy is the
second road."""

import numpy as np
import torch
from torch import nn

from metadyn.model.conditioning.shared import Shared
from metadyn.model.dynamics import Dynamics
from metadyn.model.elbo import Targets, elbo, sample_posterior
from metadyn.model.encoders import LatentEncoder
from metadyn.model.flows.base import AffineMap, Flow
from metadyn.model.gaussian import Gaussian
from metadyn.model.likelihoods.gaussian import GaussianLikelihood
from metadyn.model.meta_ssm import MetaSSM, Observations
from metadyn.model.ops.weighted_log_prob import EntryWeights
from metadyn.model.readin import ReadIn

BINS, UNITS, COPIES, SAMPLES = 12, 3, 50, 20


class Line(Flow):
    """f(z) = a z."""

    changed, entry = ("matrix",), "matrix"

    def __init__(self, slope):
        super().__init__()
        self.matrix = AffineMap(torch.tensor([[slope]]), torch.zeros(1))

    @classmethod
    def from_config(cls, config):
        raise NotImplementedError

    def forward(self, z, layers):
        return layers["matrix"](z, False)


class FreePosterior(LatentEncoder):
    """q(z) of one window, whatever the features: one mean and log variance a bin."""

    def __init__(self):
        super().__init__(1, 0, 1, 1)
        self.mean, self.log_var = (
            nn.Parameter(torch.zeros(BINS, 1)),
            nn.Parameter(torch.zeros(BINS, 1)),
        )

    def forward(self, features, embedding, length):
        shape = (*features.shape[:2], 1)
        return Gaussian(self.mean.expand(shape), self.log_var.expand(shape))


def linear_model(slope, seed=0):
    torch.manual_seed(seed)
    model = MetaSSM(
        ReadIn([UNITS], 1, 1),
        None,
        FreePosterior(),
        Dynamics(Line(slope), Shared()),
        GaussianLikelihood(1, UNITS, 1),
        embedding_dim=1,
        latent_dim=1,
        process_noise=0.4,
    ).double()
    with torch.no_grad():
        model.initial.mean.fill_(0.5)
        model.initial.log_var.fill_(-0.7)
        model.likelihood.log_var.copy_(torch.tensor([[-0.5, 0.2, -1.0]]))
        model.likelihood.bias.copy_(torch.tensor([[0.1, -0.4, 0.3]]))
    return model


def kalman(model, y, observed):
    """Log-likelihood of y (time, unit), and filtered mean and variance of each bin."""
    a, q = model.dynamics.flow.matrix.weight.item(), model.log_q.exp().item()
    c, d = model.likelihood.weight[0].numpy(force=True), model.likelihood.bias[0].numpy(force=True)
    r = np.diag(model.likelihood.log_var[0].exp().numpy(force=True))
    mean, variance = model.initial.mean.item(), model.initial.log_var.exp().item()
    total, filtered = 0.0, []
    for t in range(len(y)):
        if t > 0:
            mean, variance = a * mean, a * variance * a + q
        if observed[t]:
            error, cov = y[t] - c[:, 0] * mean - d, variance * c @ c.T + r
            total -= 0.5 * (
                error @ np.linalg.solve(cov, error) + np.linalg.slogdet(2 * np.pi * cov)[1]
            )
            gain = variance * np.linalg.solve(cov, c[:, 0])
            mean, variance = mean + gain @ error, variance * (1 - gain @ c[:, 0])
        filtered.append((mean, variance))
    return total, np.array(filtered)


def estimates(model, y, observed, seed=0, samples=SAMPLES):
    """Means of COPIES estimates of the bound: the window repeated as the trials of a session."""
    seen = Observations(
        torch.as_tensor(y).expand(1, COPIES, BINS, UNITS),
        torch.as_tensor(observed).expand(1, COPIES, BINS),
        torch.full((1, COPIES), BINS),
        torch.tensor([0]),
    )
    weight = EntryWeights(seen.observed.double(), torch.ones(1, 1, 1, UNITS, dtype=torch.bool))
    targets = Targets(weight, torch.zeros(1, COPIES, BINS, dtype=torch.bool))
    generator = torch.Generator().manual_seed(seed)
    draws = (
        sample_posterior(model, seen, targets, pooling="trial", generator=generator)
        for _ in range(samples)
    )
    bounds = [elbo(model, drawn, seen, targets).elbo() for drawn in draws]
    return torch.stack(bounds) / COPIES


def data(seed=1):
    rng = np.random.default_rng(seed)
    return rng.normal(0, 1, (BINS, UNITS)), rng.random(BINS) < 0.8


@torch.no_grad()
def test_the_bound_is_exact_where_the_posterior_is_factorised():
    """With A = 0 bins are independent: q can be the posterior, and the bound is the likelihood."""
    model, (y, observed) = linear_model(0.0), data()
    likelihood, filtered = kalman(model, y, observed)
    model.latent_encoder.mean[:, 0] = torch.as_tensor(filtered[:, 0])
    model.latent_encoder.log_var[:, 0] = torch.as_tensor(filtered[:, 1]).log()
    samples = estimates(model, y, observed)
    assert abs(samples.mean() - likelihood) < 4 * samples.std() / SAMPLES**0.5
    assert samples.std() / SAMPLES**0.5 < 0.15


def test_no_posterior_lifts_the_bound_above_the_likelihood():
    model, (y, observed) = linear_model(0.9), data()
    likelihood, _ = kalman(model, y, observed)
    posterior = model.latent_encoder
    optimiser = torch.optim.Adam([posterior.mean, posterior.log_var], lr=0.1)
    means = []
    for stage in range(3):
        with torch.no_grad():
            samples = estimates(model, y, observed, seed=stage)
        means.append(samples.mean())
        assert means[-1] <= likelihood + 4 * samples.std() / SAMPLES**0.5
        for _ in range(10):
            optimiser.zero_grad()
            (-estimates(model, y, observed, seed=10 + stage, samples=1).mean()).backward()
            optimiser.step()
    assert means[0] < means[-1]


def smoothed(model, y, observed):
    """Rauch-Tung-Striebel means (time,), and by the dense precision of the posterior its means and
    the matrix itself."""
    a, q = model.dynamics.flow.matrix.weight.item(), model.log_q.exp().item()
    filtered = kalman(model, y, observed)[1]
    means = filtered[:, 0].copy()
    for t in reversed(range(BINS - 1)):
        gain = filtered[t, 1] * a / (a * filtered[t, 1] * a + q)
        means[t] += gain * (means[t + 1] - a * filtered[t, 0])
    c, d = (
        model.likelihood.weight[0, :, 0].numpy(force=True),
        model.likelihood.bias[0].numpy(force=True),
    )
    r = model.likelihood.log_var[0].exp().numpy(force=True)
    change = np.eye(BINS) - a * np.eye(BINS, k=-1)
    noise = np.r_[model.initial.log_var.exp().item(), np.full(BINS - 1, q)]
    precision = change.T / noise @ change + np.diag(observed * (c**2 / r).sum())
    start = np.r_[model.initial.mean.item() / noise[0], np.zeros(BINS - 1)]
    return means, np.linalg.solve(precision, start + observed * ((y - d) @ (c / r))), precision


def test_the_best_factorised_posterior_has_the_smoothers_means_and_a_bound_as_low_as_its_kl():
    """q of independent bins: means of the exact posterior, variances 1 / diag Λ, KL ½ (Σ log Λ_tt −
    log det Λ)."""
    model, (y, observed) = linear_model(0.9), data()
    means, dense, precision = smoothed(model, y, observed)
    np.testing.assert_allclose(means, dense, rtol=1e-10)
    gap = 0.5 * (np.log(np.diag(precision)).sum() - np.linalg.slogdet(precision)[1])
    with torch.no_grad():
        model.latent_encoder.mean[:, 0] = torch.as_tensor(means)
        model.latent_encoder.log_var[:, 0] = torch.as_tensor(-np.log(np.diag(precision)))
        samples = estimates(model, y, observed)
    likelihood = kalman(model, y, observed)[0]
    assert abs(samples.mean() - (likelihood - gap)) < 4 * samples.std() / SAMPLES**0.5
    assert gap < 0.1 * abs(likelihood)


def test_a_posterior_that_climbs_the_bound_follows_the_smoother():
    model, (y, observed) = linear_model(0.9), data()
    means, _, precision = smoothed(model, y, observed)
    posterior = model.latent_encoder
    optimiser = torch.optim.Adam([posterior.mean, posterior.log_var], lr=0.05)
    late = []
    for step in range(240):
        optimiser.zero_grad()
        (-estimates(model, y, observed, seed=step, samples=1).mean()).backward()
        optimiser.step()
        if step >= 140:
            late.append(
                torch.cat([posterior.mean, posterior.log_var.exp().sqrt()], 1).detach().clone()
            )
    mean, sd = torch.stack(late).mean(0).numpy().T
    spread = np.sqrt(1 / np.diag(precision))
    assert np.abs(mean - means).max() < 0.1 * spread.min()
    np.testing.assert_allclose(sd, spread, rtol=0.1)
