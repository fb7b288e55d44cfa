"""Gaussians against torch.distributions."""

import torch
from torch.distributions import Normal, kl_divergence

from metadyn.model.gaussian import Gaussian, standard_normal


def random_gaussian(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return Gaussian(torch.randn(shape, generator=generator), torch.randn(shape, generator=generator))


def test_kl_is_that_of_torch_distributions_also_when_broadcast():
    q, p = random_gaussian(2, 3, 4, 5), random_gaussian(2, 1, 1, 5, seed=1)
    expected = kl_divergence(Normal(q.mean, q.sd), Normal(p.mean, p.sd)).sum(-1)
    torch.testing.assert_close(q.kl(p), expected)


def test_kl_to_itself_is_zero():
    q = random_gaussian(4, 5)
    assert torch.equal(q.kl(q), torch.zeros(4))


def test_samples_have_the_mean_and_the_sd():
    q = random_gaussian(5)
    many = Gaussian(q.mean.expand(40_000, 5), q.log_var.expand(40_000, 5)).sample(torch.Generator().manual_seed(0))
    assert ((many.mean(0) - q.mean).abs() < 4 * q.sd / 200).all()
    assert ((many.std(0) / q.sd - 1).abs() < 0.02).all()


def test_average_is_of_means_and_variances():
    q = random_gaussian(2, 7, 3)
    pooled = q.average(1)
    for session in range(2):
        torch.testing.assert_close(pooled.mean[session, 0], sum(q.mean[session]) / 7)
        torch.testing.assert_close(pooled.sd[session, 0] ** 2, sum(q.sd[session] ** 2) / 7)


def test_standard_normal_is_of_the_shape_of_its_example():
    example = torch.randn(2, 3)
    assert torch.equal(standard_normal(example).mean, torch.zeros(2, 3))
    assert torch.equal(standard_normal(example).sd, torch.ones(2, 3))
