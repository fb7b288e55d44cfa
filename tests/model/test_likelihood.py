"""Read-in, readout and likelihoods against one nn.Linear a session and scipy.stats."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy import special, stats
from torch import nn

from metadyn.choices import LIKELIHOODS
from metadyn.model.likelihoods.softplus_poisson import log_softplus
from metadyn.model.ops import chunks
from metadyn.model.ops.weighted_log_prob import EntryWeights
from metadyn.model.readin import Visible

N_UNITS = [3, 5]
ORDERS = [(1, 0), (0, 1)]  # rows of the sessions in a batch: the larger session first, and last


def linear(weight, bias):
    """An nn.Linear of weights (out, in)."""
    layer = nn.Linear(*weight.shape[::-1]).double()
    layer.load_state_dict({"weight": weight, "bias": bias})
    return layer


@pytest.mark.parametrize("rows", ORDERS)
def test_batched_readin_is_an_mlp_of_each_session(model, rows):
    readin, sizes = model().readin, tuple(N_UNITS[row] for row in rows)
    counts = torch.poisson(torch.full((2, 4, 6, 5), 2.0)).double()
    counts[0, :, :, 3:] = 0
    given, session = counts[list(rows)], torch.tensor(rows)
    visible = Visible(
        (torch.arange(5) < torch.tensor(sizes)[:, None, None, None]).expand(counts.shape), 1.0
    )
    features = readin(given, session, visible=visible)
    torch.testing.assert_close(readin(given, session, visible=visible, n_units=sizes), features)
    for place, row in enumerate(rows):
        units = N_UNITS[row]
        first = linear(readin.weight_in[row, :units].T, readin.bias_in[row])
        second = linear(readin.weight_out[row].T, readin.bias_out[row])
        y = (counts[row, :, :, :units] - readin.mean[row, :units]) / readin.sd[row, :units]
        torch.testing.assert_close(features[place], second(torch.relu(first(y))))


def test_batched_readout_is_a_linear_layer_of_each_session(model):
    likelihood = model().likelihood
    z = torch.randn(2, 4, 6, 2).double()
    out = likelihood.linear(z, torch.tensor([1, 0]))
    for place, row in enumerate([1, 0]):
        layer = linear(likelihood.weight[row], likelihood.bias[row])
        torch.testing.assert_close(out[place], layer(z[place]))


def test_poisson_log_prob_is_that_of_scipy(model):
    likelihood = model().likelihood
    z = torch.randn(2, 4, 6, 2).double()
    counts = torch.poisson(torch.full((2, 4, 6, 5), 2.0)).double()
    distribution = likelihood(z, torch.tensor([0, 1]))
    expected = stats.poisson.logpmf(
        counts.numpy(), np.exp(likelihood.linear(z, torch.tensor([0, 1])).detach().numpy())
    )
    np.testing.assert_allclose(distribution.log_prob(counts).detach(), expected, rtol=1e-9)
    torch.testing.assert_close(distribution.mean, likelihood.linear(z, torch.tensor([0, 1])).exp())


def test_softplus_poisson_log_prob_is_that_of_scipy(model):
    likelihood, session = model(link="softplus").likelihood, torch.tensor([0, 1])
    z = (
        6 * torch.randn(2, 4, 6, 2, generator=torch.Generator().manual_seed(0)).double()
    )  # on both arms of the link
    counts = torch.poisson(torch.full((2, 4, 6, 5), 2.0)).double()
    rate = np.log1p(np.exp(likelihood.linear(z, session).detach().numpy()))
    assert rate.min() < 0.01
    assert rate.max() > 5
    distribution = likelihood(z, session)
    np.testing.assert_allclose(
        distribution.log_prob(counts).detach(),
        stats.poisson.logpmf(counts.numpy(), rate),
        rtol=1e-7,
    )
    np.testing.assert_allclose(distribution.mean.detach(), rate, rtol=1e-7)


def test_log_softplus_and_its_gradient_are_finite_and_right_everywhere():
    x = torch.tensor([-300.0, -20.1, -19.9, -1.0, 0.0, 30.0], requires_grad=True)
    value = log_softplus(x)
    (gradient,) = torch.autograd.grad(value.sum(), x)
    exact = np.logaddexp(0, x.detach().numpy().astype(np.float64))
    np.testing.assert_allclose(value.detach(), np.log(exact), rtol=1e-5)
    np.testing.assert_allclose(
        gradient, special.expit(x.detach().numpy().astype(np.float64)) / exact, rtol=1e-4
    )


@pytest.mark.parametrize("link", ["exp", "softplus"])
def test_poisson_log_prob_stays_finite_where_the_rate_underflows(model, link):
    likelihood = model(link=link).likelihood.float()
    with torch.no_grad():
        likelihood.bias.fill_(-300.0)
    log_prob = likelihood(torch.zeros(2, 1, 1, 2), torch.tensor([0, 1])).log_prob(
        torch.ones(2, 1, 1, 5)
    )
    torch.testing.assert_close(log_prob, torch.full_like(log_prob, -300.0))


def test_log_factorials_are_numbers_where_a_model_is_first_built_without_values():
    """A model file is read so; in a process of its own, as the module is imported only once."""
    lines = [
        "import torch",
        "from metadyn.config import ModelConfig",
        "from metadyn.model.build import build_model",
        "with torch.device('meta'): build_model(ModelConfig(), [3])",
        "from metadyn.model.likelihoods.poisson import log_factorial",
        "print(float(log_factorial(torch.tensor([5.0]))))",
    ]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=True
    )
    assert float(done.stdout) == pytest.approx(np.log(120), rel=1e-6)


def test_gaussian_log_prob_is_that_of_scipy(model):
    likelihood = model(likelihood="gaussian").likelihood
    z, y = torch.randn(2, 4, 6, 2).double(), torch.randn(2, 4, 6, 5).double()
    session = torch.tensor([1, 0])
    expected = stats.norm.logpdf(
        y.numpy(),
        likelihood.linear(z, session).detach().numpy(),
        np.exp(0.5 * likelihood.log_var.detach().numpy())[[1, 0], None, None],
    )
    np.testing.assert_allclose(likelihood(z, session).log_prob(y).detach(), expected, rtol=1e-9)


each_likelihood = pytest.mark.parametrize(
    "options",
    [
        {key: word for key, word in zip(("likelihood", "link"), line, strict=True) if word}
        for line in LIKELIHOODS
    ],
    ids=lambda options: "-".join(options.values()),
)


@pytest.mark.parametrize("rows", ORDERS)
@pytest.mark.parametrize("entries", [1, 1 << 20])
@each_likelihood
def test_the_score_is_the_weighted_sum_of_log_prob_in_value_and_gradient(
    model, options, entries, rows, monkeypatch
):
    """Also session by session; some counts are beyond the table of factorials."""
    monkeypatch.setattr(chunks, "CHUNK_ENTRIES", entries)
    likelihood, session, sizes = (
        model(**options).likelihood,
        torch.tensor(rows),
        tuple(N_UNITS[row] for row in rows),
    )
    z = torch.randn(2, 4, 6, 2).double().requires_grad_()
    units = (torch.arange(5) < torch.tensor(sizes)[:, None]).double()[:, None, None]
    weight = EntryWeights(
        torch.rand(2, 4, 6).double(), (torch.rand(2, 4, 6, 5) < 0.7) & units.bool()
    )
    for size in (2.0, 300.0):
        counts = torch.poisson(torch.full((2, 4, 6, 5), size)).double() * units
        sums = [
            (likelihood(z, session).log_prob(counts) * weight.whole()).sum(),
            likelihood.weighted_log_prob(z, session, counts, weight, sizes),
            likelihood.weighted_log_prob(z, session, counts, weight),
        ]
        inputs = [z, *likelihood.parameters()]
        expected, *found = [(total, *torch.autograd.grad(3 * total, inputs)) for total in sums]
        for each in found:
            torch.testing.assert_close(each, expected, rtol=1e-9, atol=1e-9)


@each_likelihood
def test_samples_have_the_distributions_mean_which_is_the_expected_value(model, options):
    torch.manual_seed(0)
    likelihood, session = model(**options).likelihood, torch.tensor([0, 1])
    z = torch.zeros(2, 1, 1, 2).double()
    distribution = likelihood(z, session)
    many = distribution.sample((20_000,))
    assert ((many.mean(0) - distribution.mean).abs() < 5 * many.std(0) / 20_000**0.5).all()
    expected = likelihood.expected(likelihood.linear(z, session))
    torch.testing.assert_close(distribution.mean, expected)


@each_likelihood
def test_rates_have_the_moments_of_samples_of_the_latents(model, options):
    likelihood, generator = model(**options).likelihood, torch.Generator().manual_seed(0)
    mean = torch.tensor([-3.0, 0.0, 2.0]).double()
    variance = torch.tensor([0.5, 0.3, 0.1]).double()
    samples = torch.randn(200_000, 3, generator=generator).double() * variance.sqrt() + mean
    rates = likelihood.expected(samples)
    first, sd = likelihood.rate_moments(mean, variance)
    assert ((first - rates.mean(0)).abs() < 5 * rates.std(0) / 200_000**0.5).all()
    torch.testing.assert_close(sd, rates.std(0), rtol=0.02, atol=0)


@each_likelihood
def test_the_slope_at_a_mean_is_that_of_the_expected_value(model, options):
    likelihood = model(**options).likelihood
    linear = torch.tensor([-3.0, -0.5, 0.0, 2.0]).double().requires_grad_()
    mean = likelihood.expected(linear)
    (slope,) = torch.autograd.grad(mean.sum(), linear)
    found = torch.ones_like(mean) * likelihood.slope_at(mean.detach())
    torch.testing.assert_close(found, slope)


@each_likelihood
def test_units_keep_their_mean_count_when_a_start_becomes_one_of_the_link(model, options):
    """Over z ~ N(0, I): the start is a readout of log rates, or of continuous observations."""
    likelihood, rng = model(**options).likelihood, np.random.default_rng(0)
    weight, mean = 0.4 * rng.standard_normal((6, 2)), np.array([0.05, 0.2, 0.5, 1.0, 3.0, 9.0])
    log_mean = np.log(mean) - 0.5 * (weight**2).sum(1)
    start = (weight, log_mean if likelihood.of_counts else mean, mean)
    c, d = (torch.from_numpy(each) for each in likelihood.initial_readout(*start))
    first, _ = likelihood.rate_moments(d, (c**2).sum(1))
    np.testing.assert_allclose(first, mean, rtol=1e-3)
    assert set(likelihood.initial_own(np.zeros(6), 1.0)) <= set(likelihood.own)


@each_likelihood
def test_a_session_has_the_parameters_that_it_was_given_and_no_other_has(model, options):
    likelihood, rng = model(**options).likelihood.float(), np.random.default_rng(0)
    before = {name: each.detach().clone() for name, each in likelihood.named_parameters()}
    units = N_UNITS[0]
    own = {name: rng.standard_normal(units) for name in likelihood.own}
    given = {"weight": rng.standard_normal((units, 2)), "bias": rng.standard_normal(units)}
    likelihood.set_session(0, **given, own=own)
    for name, value in (given | own).items():
        after = getattr(likelihood, name)
        np.testing.assert_allclose(after[0, :units].detach(), value, rtol=1e-6)
        assert torch.equal(after[0, units:], before[name][0, units:])
        assert torch.equal(after[1], before[name][1])
