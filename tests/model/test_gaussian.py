"""Gaussians against torch.distributions."""

import math

import numpy as np
import pytest
import torch
from torch.distributions import Normal, kl_divergence

from metadyn.model.gaussian import Gaussian, standard_normal


def random_gaussian(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return Gaussian(
        torch.randn(shape, generator=generator), torch.randn(shape, generator=generator)
    )


def test_kl_is_that_of_torch_distributions_also_when_broadcast():
    q, p = random_gaussian(2, 3, 4, 5), random_gaussian(2, 1, 1, 5, seed=1)
    expected = kl_divergence(Normal(q.mean, q.sd), Normal(p.mean, p.sd)).sum(-1)
    torch.testing.assert_close(q.kl(p), expected)


def test_kl_to_itself_is_zero():
    q = random_gaussian(4, 5)
    assert torch.equal(q.kl(q), torch.zeros(4))


def test_samples_have_the_mean_and_the_sd():
    q = random_gaussian(5)
    many = Gaussian(q.mean.expand(40_000, 5), q.log_var.expand(40_000, 5)).sample(
        torch.Generator().manual_seed(0)
    )
    assert ((many.mean(0) - q.mean).abs() < 4 * q.sd / 200).all()
    assert ((many.std(0) / q.sd - 1).abs() < 0.02).all()


def test_average_is_of_means_and_variances():
    q = random_gaussian(2, 7, 3)
    pooled = q.average(1)
    for session in range(2):
        torch.testing.assert_close(pooled.mean[session, 0], sum(q.mean[session]) / 7)
        torch.testing.assert_close(pooled.sd[session, 0] ** 2, sum(q.sd[session] ** 2) / 7)


def test_a_product_of_posteriors_is_the_posterior_of_all_observations():
    """x_n = e + noise of known variances, e ~ N(0, 1): q_n of each x_n alone, against the joint
    Gaussian's conditional."""
    rng = np.random.default_rng(0)
    noise, x = rng.uniform(0.2, 4, (6, 2)), rng.normal(0, 2, (6, 2))
    alone = Gaussian(torch.tensor(x / (1 + noise)), torch.tensor(noise / (1 + noise)).log())
    together = alone.product(0)
    for dim in range(2):
        covariance = np.ones((6, 6)) + np.diag(
            noise[:, dim]
        )  # of the x_n; each has covariance 1 with e
        gain = np.linalg.solve(covariance, np.ones(6))
        assert together.mean[0, dim].item() == pytest.approx(gain @ x[:, dim])
        assert together.sd[0, dim].item() ** 2 == pytest.approx(1 - gain.sum())


def assert_same(one, other):
    torch.testing.assert_close((one.mean, one.log_var), (other.mean, other.log_var))


def test_a_product_sharpens_with_the_number_of_posteriors_and_one_is_itself():
    q = Gaussian(torch.tensor([[0.3]]).double(), torch.tensor([[-2.0]]).double())
    assert_same(q.product(0), q)
    for count in (10, 1000):
        variance = (
            Gaussian(q.mean.expand(count, 1), q.log_var.expand(count, 1))
            .product(0)
            .log_var.exp()
            .item()
        )
        assert 1 / variance == pytest.approx(1 + count * (math.exp(2) - 1))


def test_posteriors_wider_than_the_prior_or_not_counted_tell_a_product_nothing():
    q = random_gaussian(4, 2)
    wide = Gaussian(
        torch.cat([q.mean, torch.zeros(1, 2)]), torch.cat([q.log_var, torch.full((1, 2), 3.0)])
    )
    assert_same(wide.product(0), q.product(0))
    counted = torch.tensor([True, True, True, True, False])
    more = Gaussian(
        torch.cat([q.mean, torch.full((1, 2), 5.0)]),
        torch.cat([q.log_var, torch.full((1, 2), -9.0)]),
    )
    assert_same(more.product(0, counted), q.product(0))


def test_standard_normal_is_of_the_shape_of_its_example():
    example = torch.randn(2, 3)
    assert torch.equal(standard_normal(example).mean, torch.zeros(2, 3))
    assert torch.equal(standard_normal(example).sd, torch.ones(2, 3))
