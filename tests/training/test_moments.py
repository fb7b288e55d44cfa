"""The start from data alone: factors found, mirrors turned alike, regressions at their optimum,
read-ins exact."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.linalg import subspace_angles
from scipy.optimize import minimize

from metadyn.model.build import build_model
from metadyn.model.likelihoods.poisson import PoissonLikelihood
from metadyn.model.likelihoods.softplus_poisson import SoftplusPoissonLikelihood
from metadyn.records import Source, TrialCounts, Windows
from metadyn.training.initial.activity import init_by_moments, init_by_pca, init_from_activity
from metadyn.training.initial.conditions import poisson_regression
from metadyn.training.initial.initialise import set_session, with_link
from metadyn.training.initial.moments import smoothed
from metadyn.training.initial.rotation import canonical_rotation


def made_counts(counts, observed=None):
    n_trials, n_bins, n_units = counts.shape
    windows = Windows(
        np.arange(n_trials) * 10.0, np.full(n_trials, n_bins), 0.02, None, np.full(n_trials, -1)
    )
    observed = np.ones((n_trials, n_bins), bool) if observed is None else observed
    return TrialCounts("made", Source(), counts, observed, windows, np.arange(n_units))


def smooth_latents(rng, n_trials, n_bins, dim):
    """Independent sums of slow sines: mean 0, variance 1, and slow beside a smoothing of a few
    bins."""
    time = np.arange(n_bins)[:, None, None]
    period, phase = (
        rng.uniform(40, 120, (n_trials, 1, 3, dim)),
        rng.uniform(0, 2 * np.pi, (n_trials, 1, 3, dim)),
    )
    return np.sqrt(2 / 3) * np.sin(2 * np.pi * time / period + phase).sum(2)


@pytest.fixture(scope="module")
def factor_model():
    """Poisson counts of 30 units, .3 spikes a bin on average, and their truth."""
    rng = np.random.default_rng(0)
    weight, bias = rng.normal(0, 0.6, (30, 2)), np.log(rng.uniform(0.1, 0.5, 30))
    z = smooth_latents(rng, 40, 100, 2)
    rate = np.exp(z @ weight.T + bias)
    return made_counts(rng.poisson(rate)), weight, z, rate


def test_the_moment_start_finds_the_factors_of_a_poisson_model(factor_model):
    """Readout planes 15° apart at most (random planes in 30 dimensions stand at 75° and more), its
    scale within a quarter, rates r² ≥ .7 (measured .9; a mean rate has 0 by definition)."""
    counts, weight, _, rate = factor_model
    start = init_by_moments(counts, 2, 4.0)
    assert np.degrees(subspace_angles(start.weight, weight)).max() < 15
    assert np.linalg.norm(start.weight) == pytest.approx(np.linalg.norm(weight), rel=0.25)
    np.testing.assert_allclose(start.mean, counts.counts.mean((0, 1)), rtol=1e-6)
    found = np.exp(start.latents @ start.weight.T + start.bias)
    error = ((np.log(found) - np.log(rate)) ** 2).sum() / (
        (np.log(rate) - np.log(rate).mean((0, 1))) ** 2
    ).sum()
    assert 1 - error > 0.7
    chance = np.degrees(
        subspace_angles(np.random.default_rng(1).normal(size=(30, 2)), weight)
    ).max()
    assert chance > 60


def test_the_moment_starts_bias_gives_the_mean_rates(factor_model):
    counts, _, _, _ = factor_model
    start = init_by_moments(counts, 2, 4.0)
    expected = np.exp(start.bias + 0.5 * (start.weight**2).sum(1))  # of latents N(0, I)
    np.testing.assert_allclose(expected, counts.counts.mean((0, 1)), rtol=0.02)


def test_of_as_many_units_as_latents_the_readout_is_what_their_log_rates_vary_by_beyond_counting(
    factor_model,
):
    """Moments by numpy over bins that were observed; smoothing leaves 1 / (2 √π SD) of a Poisson
    variance."""
    counts = factor_model[0].select(units=factor_model[0].counts.mean((0, 1)).argsort()[-2:])
    observed = np.random.default_rng(0).random(counts.observed.shape) < 0.9
    counts = replace(counts, observed=observed, counts=counts.counts * observed[..., None])
    start = init_by_moments(counts, 2, 4.0)
    rows = smoothed(counts, 4.0)[observed].astype(float)
    mean = rows.mean(0)
    beyond = np.cov(rows.T) - np.diag(mean / (2 * np.sqrt(np.pi) * 4.0))
    of_log_rates = np.log(1 + beyond / np.outer(mean, mean))
    assert np.linalg.eigvalsh(of_log_rates).min() > 0
    np.testing.assert_allclose(start.weight @ start.weight.T, of_log_rates, atol=1e-3)
    np.testing.assert_allclose(start.bias, np.log(mean) - 0.5 * np.diag(of_log_rates), atol=1e-3)


@pytest.mark.parametrize("scale", [1.0, 8.0])
def test_a_softplus_start_has_the_mean_rates_and_slopes_of_the_exponential(factor_model, scale):
    """Over many z ~ N(0, I), at low rates and at high ones: the mean to 2 %; the slope to a third,
    for it is linearised."""
    start = init_by_moments(factor_model[0], 2, 4.0)
    start = replace(start, mean=start.mean * scale, bias=start.bias + np.log(scale))
    converted = with_link(start, SoftplusPoissonLikelihood)
    z = np.random.default_rng(0).standard_normal((20_000, 2))
    rate = np.logaddexp(0, z @ converted.weight.T + converted.bias)
    np.testing.assert_allclose(rate.mean(0), start.mean, rtol=0.02)
    exponential = np.exp(z @ start.weight.T + start.bias)
    slopes = [(each - each.mean(0)).T @ z / len(z) for each in (rate, exponential)]
    assert np.linalg.norm(slopes[0] - slopes[1]) < np.linalg.norm(slopes[1]) / 3
    np.testing.assert_array_equal(converted.latents, start.latents)


def test_the_gaussian_start_is_the_principal_components(factor_model):
    rng = np.random.default_rng(2)
    _, weight, z, _ = factor_model
    y = (z @ weight.T + 1.5 + 0.1 * rng.standard_normal((40, 100, 30))).astype(np.float32)
    start = init_by_pca(made_counts(y), 2, 4.0)
    rows = y.reshape(-1, 30)
    _, _, components = np.linalg.svd(rows - rows.mean(0), full_matrices=False)
    assert np.degrees(subspace_angles(start.weight, components[:2].T)).max() < 0.1
    np.testing.assert_allclose(
        start.weight.T @ start.weight, 30 * np.eye(2), atol=1e-9
    )  # both directions on one scale
    residual = np.exp(start.log_var).mean()
    assert residual == pytest.approx(
        0.01 * 28 / 30, rel=0.03
    )  # two of thirty dimensions went into the components


def test_smoothing_does_not_look_at_unobserved_bins():
    rng = np.random.default_rng(0)
    counts, observed = rng.poisson(2.0, (3, 30, 4)), rng.random((3, 30)) < 0.7
    other = np.where(observed[..., None], counts, 200)
    one, two = (
        smoothed(made_counts(counts, observed), 2.0),
        smoothed(made_counts(other, observed), 2.0),
    )
    np.testing.assert_array_equal(one, two)
    assert not one[~observed].any()


def test_smoothing_keeps_a_constant_also_beside_gaps():
    observed = np.random.default_rng(0).random((3, 30)) < 0.7
    out = smoothed(made_counts(np.full((3, 30, 4), 3), observed), 2.0)
    np.testing.assert_allclose(out[observed], 3.0, rtol=1e-5)


def turning_path(dim, seed):
    """Latents that turn fast in the plane (0, 1), slowly in (2, 3), and hardly elsewhere, seen
    through a random rotation."""
    rng = np.random.default_rng(seed)
    time = np.arange(60)[:, None]
    speed = np.repeat([0.5, 0.2, 0.0], 2)[:dim]
    phase = (
        rng.uniform(0, 2 * np.pi, (5, 1, 3)).repeat(2, 2)[..., :dim]
        - (np.arange(dim) % 2) * np.pi / 2
    )
    rotation = np.linalg.qr(rng.normal(size=(dim, dim)))[0]
    return np.cos(speed * time + phase) @ rotation.T + 0.01 * rng.standard_normal((5, 60, dim))


def turning(z):
    """Signed area rate in each plane (0, 1), (2, 3)."""
    return [
        (z[:, :-1, i] * z[:, 1:, i + 1] - z[:, 1:, i] * z[:, :-1, i + 1]).mean()
        for i in range(0, z.shape[-1] - 1, 2)
    ]


@pytest.mark.parametrize("dim", [2, 3, 4, 5])
def test_canonical_rotation_is_orthogonal_and_turns_mirrored_copies_alike(dim):
    z, observed = turning_path(dim, dim), np.ones((5, 60), bool)
    mirrored = z * np.where(np.arange(dim) == 0, -1.0, 1.0)
    turned = []
    for copy in (z, mirrored):
        rotation = canonical_rotation(copy, observed)
        np.testing.assert_allclose(rotation @ rotation.T, np.eye(dim), atol=1e-6)
        turned.append(turning(copy @ rotation.T))
    np.testing.assert_allclose(turned[0], turned[1], rtol=1e-6)
    assert np.sign(turned[0]).tolist() == [np.sign(turned[0][0])] * (dim // 2)
    assert np.all(np.diff(np.abs(turned[0])) < 0)


@pytest.mark.parametrize("dim", [2, 4])
def test_canonical_rotation_is_orthogonal_also_where_latents_stand_still(dim):
    z = np.zeros((5, 60, dim))
    z[..., :2] = turning_path(2, 0) if dim == 4 else 0.0
    rotation = canonical_rotation(z, np.ones((5, 60), bool))
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(dim), atol=1e-6)


def test_turned_and_scaled_starts_predict_the_same_rates(factor_model):
    start = init_by_moments(factor_model[0], 2, 4.0)
    rotation = canonical_rotation(start.latents, factor_model[0].observed)
    other = start.rotated(rotation).scaled(3.0)
    np.testing.assert_allclose(
        other.latents @ other.weight.T, start.latents @ start.weight.T, atol=1e-4
    )
    np.testing.assert_allclose(
        other.weight @ other.projection, start.weight @ start.projection, atol=1e-6
    )


def test_starts_of_several_sessions_turn_one_way(simulated):
    sessions = simulated(parameters=[2.0, 3.5, 5.0], n_trials=24, n_bins=60, units=(25, 30))
    starts = init_from_activity(sessions, PoissonLikelihood, 2, 4.0)
    assert len({np.sign(turning(start.latents)[0]) for start in starts}) == 1


@pytest.mark.parametrize("units", [1, 3])  # one exposure of all units, or one of each
def test_poisson_regression_is_at_the_optimum_that_scipy_finds(units):
    rng = np.random.default_rng(0)
    x, variance = rng.standard_normal((80, 2)), np.array([0.3, 0.8])
    exposure = rng.integers(1 if units == 1 else 0, 5, (80, units)).astype(float)
    total = rng.poisson(exposure * np.exp(x @ rng.normal(0, 0.5, (2, 3)) - 0.5))
    weight, bias = poisson_regression(x, total, exposure, variance)
    for unit in range(3):

        def loss(c, unit=unit):
            log_rate = x @ c[:2] + c[2]
            likelihood = total[:, unit] @ log_rate - exposure[:, unit % units] @ np.exp(log_rate)
            return -likelihood + 0.5 * (c[:2] ** 2 / variance).sum() + 0.5e-3 * c[2] ** 2

        best = minimize(loss, np.zeros(3), method="BFGS", options={"gtol": 1e-7})
        np.testing.assert_allclose([*weight[unit], bias[unit]], best.x, atol=1e-5)


def test_poisson_regression_of_a_silent_unit_stays_finite():
    x = np.random.default_rng(0).standard_normal((50, 2))
    weight, bias = poisson_regression(x, np.zeros((50, 1)), np.ones((50, 1)), np.ones(2))
    assert np.isfinite(weight).all()
    assert bias < -4


def test_the_first_features_are_the_projection_of_the_deviations(simulated, small):
    """Pairs of rectifiers are exact: what else the features hold comes from the other, random
    hidden units."""
    sessions = simulated()
    model = build_model(small(), [each.n_units for each in sessions])
    starts = init_from_activity(sessions, PoissonLikelihood, 2, 3.0)
    for row, (counts, start) in enumerate(zip(sessions, starts, strict=True)):
        set_session(model, row, start)
        with torch.no_grad():
            model.readin.weight_out[row, 4:, :2] = 0
        padded = torch.zeros(1, 8, 24, model.readin.mean.shape[1])
        padded[0, ..., : counts.n_units] = torch.as_tensor(counts.counts.astype(np.float32))
        session = torch.tensor([row])
        features = model.readin(padded, session)
        expected = (counts.counts - start.mean) @ start.projection.T
        np.testing.assert_allclose(features[0, ..., :2].numpy(force=True), expected, atol=1e-4)
        units = slice(counts.n_units)
        np.testing.assert_allclose(
            model.likelihood.weight[row, units].numpy(force=True), start.weight, rtol=1e-5
        )
        np.testing.assert_allclose(
            model.likelihood.bias[row, units].numpy(force=True), start.bias, rtol=1e-5
        )


def test_unobserved_bins_do_not_change_a_start(factor_model):
    counts = factor_model[0].select(slice(10))
    observed = np.random.default_rng(0).random(counts.observed.shape) < 0.9
    one, two = (
        init_by_moments(replace(counts, counts=values, observed=observed), 2, 4.0)
        for values in (counts.counts, np.where(observed[..., None], counts.counts, 99))
    )
    np.testing.assert_array_equal(one.weight, two.weight)
    np.testing.assert_array_equal(one.latents, two.latents)


def test_a_start_mapped_twice_still_finds_its_latents_by_its_projection_and_offset(factor_model):
    """projection (counts − mean) + offset, the second road, are the latents that were mapped."""
    counts, rng = factor_model[0], np.random.default_rng(2)
    start = init_by_pca(counts, 2, 4.0)
    for _ in range(2):
        start = start.mapped(np.eye(2) + 0.5 * rng.normal(size=(2, 2)), rng.normal(size=2))
        found = (counts.counts - start.mean) @ start.projection.T + start.offset
        np.testing.assert_allclose(found, start.latents, atol=1e-4)
