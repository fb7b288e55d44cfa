"""What training sessions have in common, and starts moved about in one frame: moments by plain
loops, over uneven sessions."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from metadyn.config import TrainingConfig
from metadyn.model.build import build_model
from metadyn.model.likelihoods.gaussian import GaussianLikelihood
from metadyn.training.alignment.shared_latents import pooled_sd, shared_latents_of
from metadyn.training.initial.activity import (
    MOST_LOG_SD,
    init_by_moments,
    init_by_pca,
    init_from_activity,
    of_unit_variance,
)
from metadyn.training.initial.condition_averages import common_trajectories, shared_bins
from metadyn.training.initial.conditions import init_by_regression
from metadyn.training.initial.initialise import initialise_sessions, initialised_model, set_session
from metadyn.training.initial.latents import rate_projection
from metadyn.training.initial.moments import (
    kernel_power,
    mean_and_covariance,
    smoothed,
    wide_enough,
)
from metadyn.training.initial.rotation import canonical_rotation


@pytest.fixture
def latents(uneven):
    """Latents of each session about a centre of its own, NaN behind a window's end."""
    rng, out = np.random.default_rng(0), []
    for place, counts in enumerate(uneven()):
        z = rng.normal([place, -2.0 * place], [0.5, 1.0 + place], (*counts.observed.shape, 2))
        z[np.arange(24) >= counts.windows.n_bins[:, None]] = np.nan
        out.append(z)
    return out


def test_the_spread_of_latents_is_that_of_all_bins_of_all_sessions(latents):
    rows = np.concatenate([z[np.isfinite(z).all(-1)] for z in latents])
    np.testing.assert_allclose(pooled_sd(latents), rows.std(0), rtol=1e-9)


def test_a_frame_holds_centres_the_spread_of_trials_about_them_and_of_readouts(uneven, latents):
    """A trial's mean latent counts alike however long the trial is."""
    weights = [
        np.random.default_rng(place).normal(size=(n, 2)) * (1 + place)
        for place, n in enumerate((4, 9, 6))
    ]
    frame = shared_latents_of(uneven(), latents, weights)
    scatter, freedom = np.zeros((2, 2)), 0
    for place, (z, counts) in enumerate(zip(latents, uneven(), strict=True)):
        means = np.array(
            [trial[:n].mean(0) for trial, n in zip(z, counts.windows.n_bins, strict=True)]
        )
        np.testing.assert_allclose(frame.centers[place], means.mean(0), rtol=1e-9)
        for mean in means:
            scatter += np.outer(mean - means.mean(0), mean - means.mean(0))
        freedom += len(means) - 1
    np.testing.assert_allclose(frame.trial_spread, scatter / freedom, rtol=1e-9)
    np.testing.assert_allclose(frame.weight_var, np.concatenate(weights).var(0), atol=2e-4)
    np.testing.assert_allclose(frame.latent_sd, pooled_sd(latents))


def labelled(sessions):
    return [
        replace(
            each, condition=np.array([["x", "y", "z"][trial % 3] for trial in range(each.n_trials)])
        )
        for each in sessions
    ]


def test_common_trajectories_have_unit_variance_and_follow_all_sessions(uneven):
    sessions = [
        replace(each, observed=np.arange(24) < each.windows.n_bins[:, None])
        for each in labelled(uneven())
    ]
    n_bins = min(int(n) for counts in sessions for n in counts.windows.n_bins)
    paths = common_trajectories(sessions, ["x", "y", "z"], n_bins, 2, 3.0)
    assert paths.shape == (3, n_bins, 2)
    rows = paths.reshape(-1, 2)
    np.testing.assert_allclose(rows.T @ rows / len(rows), np.eye(2), atol=1e-9)
    np.testing.assert_allclose(rows.mean(0), 0, atol=1e-9)
    for place in range(3):
        without = common_trajectories(
            [each for i, each in enumerate(sessions) if i != place], ["x", "y", "z"], n_bins, 2, 3.0
        )
        assert not np.allclose(np.abs(without), np.abs(paths), atol=1e-3)


def test_a_start_moved_by_a_map_and_an_offset_says_the_same_of_the_units(uneven):
    """Rates of its latents, and latents of the counts, in the new coordinates as in the old
    ones."""
    counts = uneven()[1]
    start = init_by_moments(counts, 2, 3.0)
    matrix, offset = np.array([[2.0, 0.3], [-0.5, 0.7]]), np.array([1.5, -0.4])
    moved = start.mapped(matrix, offset)
    np.testing.assert_allclose(
        moved.latents @ moved.weight.T + moved.bias,
        start.latents @ start.weight.T + start.bias,
        atol=1e-4,
    )
    deviations = np.random.default_rng(0).normal(size=(20, counts.n_units))
    before = deviations @ start.projection.T + start.offset
    np.testing.assert_allclose(
        deviations @ moved.projection.T + moved.offset, before @ matrix.T + offset, atol=1e-9
    )
    again = moved.mapped(np.linalg.inv(matrix), -np.linalg.inv(matrix) @ offset)
    for name in ("weight", "bias", "projection", "offset", "latents"):
        np.testing.assert_allclose(
            getattr(again, name), getattr(start, name), atol=1e-4, err_msg=name
        )


def test_counts_become_latents_by_regression_weighted_by_the_rates_with_a_tenth_of_a_prior():
    """As least squares with rows of their own for the prior, each unit's row over the SD of its
    counts."""
    rng = np.random.default_rng(0)
    weight, mean, deviation = rng.normal(size=(6, 2)), rng.uniform(0.2, 3.0, 6), rng.normal(size=6)
    rows = np.concatenate([np.sqrt(mean)[:, None] * weight, np.sqrt(0.1) * np.eye(2)])
    expected = np.linalg.lstsq(
        rows, np.concatenate([deviation / np.sqrt(mean), np.zeros(2)]), rcond=None
    )[0]
    np.testing.assert_allclose(rate_projection(weight, mean) @ deviation, expected, atol=1e-9)


def test_moments_are_those_of_observed_bins(uneven):
    for counts in uneven():
        rows = counts.counts[counts.observed].astype(float)
        mean, covariance = mean_and_covariance(counts.counts, counts.observed_entries)
        np.testing.assert_allclose(mean, rows.mean(0), rtol=1e-9)
        np.testing.assert_allclose(covariance, np.cov(rows.T), rtol=1e-9)


@pytest.mark.parametrize("sd", [2.0, 6.0])
def test_smoothing_leaves_that_share_of_the_variance_of_white_noise(sd):
    """Of 200 000 independent Poisson counts smoothed by scipy, to 2 %."""
    from scipy.ndimage import gaussian_filter1d

    noise = np.random.default_rng(0).poisson(2.0, 200_000).astype(float)
    assert gaussian_filter1d(noise, sd).var() == pytest.approx(2.0 * kernel_power(sd), rel=0.03)


@pytest.mark.parametrize(("rate", "sd"), [(1.0, 3.0), (0.01, 25.0), (0.001, 40.0)])
def test_smoothing_is_as_wide_as_a_quarter_of_a_spike_needs_up_to_a_fifth_of_the_window(
    uneven, rate, sd
):
    """Of bins that were observed: 3 bins asked for, windows of 200."""
    counts = uneven()[1]
    values, observed = np.full((9, 200, 9), rate), np.arange(200) < np.arange(20, 200, 20)[:, None]
    given = replace(counts, counts=values * observed[..., None], observed=observed)
    assert wide_enough(given, 3.0) == pytest.approx(sd)


def test_no_unit_starts_with_a_larger_swing_than_the_most_and_all_keep_their_mean_rate(uneven):
    """Bursts in one trial of many: moments alone would have it vary by a factor of hundreds."""
    counts = uneven()[1]
    values = counts.counts.astype(float).copy()
    values[:, :, 4] = 0
    values[3, 2:7, 4] = 200.0 * counts.observed[3, 2:7]
    start = init_by_moments(replace(counts, counts=values), 2, 1.0)
    swing = np.linalg.norm(start.weight, axis=1)
    assert swing[4] == pytest.approx(MOST_LOG_SD)
    assert (swing[np.arange(9) != 4] < MOST_LOG_SD).all()
    mean = smoothed(
        replace(counts, counts=values), wide_enough(replace(counts, counts=values), 1.0)
    )[counts.observed].mean(0)
    np.testing.assert_allclose(
        np.exp(start.bias + 0.5 * swing**2), np.maximum(mean, 1e-4), rtol=1e-3
    )


def test_gaussian_sessions_start_on_one_scale_on_which_their_latents_vary_by_one_on_average(uneven):
    sessions = [
        replace(each, counts=each.counts * (1.0 + place)) for place, each in enumerate(uneven())
    ]
    starts = [init_by_pca(each, 2, 3.0) for each in sessions]
    scaled = of_unit_variance(starts, sessions)
    variances = [
        start.latents[each.observed].var(0).mean()
        for start, each in zip(scaled, sessions, strict=True)
    ]
    assert np.mean(variances) == pytest.approx(1, rel=1e-4)
    ratios = [
        after.latents[0, 0, 0] / before.latents[0, 0, 0]
        for after, before in zip(scaled, starts, strict=True)
    ]
    np.testing.assert_allclose(ratios, ratios[0], rtol=1e-4)


def test_a_gaussian_start_looks_at_observed_bins_and_its_noise_is_what_its_plane_leaves(uneven):
    counts = uneven()[1]
    garbled = replace(counts, counts=np.where(counts.observed[..., None], counts.counts, 99))
    one, two = init_by_pca(counts, 2, 3.0), init_by_pca(garbled, 2, 3.0)
    for name in ("weight", "bias", "mean", "sd", "projection", "log_var", "latents"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name), err_msg=name)
    rows = counts.counts[counts.observed].astype(float)
    left = rows - (one.latents[counts.observed] @ one.weight.T + one.bias)
    np.testing.assert_allclose(np.exp(one.log_var), left.var(0), rtol=1e-3)
    np.testing.assert_allclose(one.sd, rows.std(0), rtol=1e-6)


def test_the_canonical_rotation_looks_at_pairs_of_observed_bins(uneven):
    counts = uneven()[1]
    z = np.random.default_rng(0).normal(size=(*counts.observed.shape, 3)).cumsum(1)
    other = np.where(counts.observed[..., None], z, -40.0)
    np.testing.assert_allclose(
        canonical_rotation(z, counts.observed),
        canonical_rotation(other, counts.observed),
        atol=1e-9,
    )


def test_noise_of_gaussian_units_starts_at_four_times_the_residual_and_random_units_of_the_read_in_at_a_tenth(
    uneven, small
):
    sessions, config = uneven(), small(likelihood="gaussian", readin_hidden=10)
    random = build_model(config, [counts.n_units for counts in sessions], seed=0)
    model = build_model(config, [counts.n_units for counts in sessions], seed=0)
    starts = init_from_activity(sessions, GaussianLikelihood, 2, 3.0)
    for row, (counts, start) in enumerate(zip(sessions, starts, strict=True)):
        set_session(model, row, start)
        variance = model.likelihood.log_var[row, : counts.n_units].exp().detach()
        np.testing.assert_allclose(variance, 4 * np.exp(start.log_var), rtol=1e-4)
        torch.testing.assert_close(
            model.readin.weight_out[row, 4:, :2], 0.1 * random.readin.weight_out[row, 4:, :2]
        )
        torch.testing.assert_close(
            model.readin.weight_out[row, 4:, 2:], random.readin.weight_out[row, 4:, 2:]
        )


def test_starts_are_of_the_labels_where_all_sessions_have_them_and_spikes_only(uneven, small):
    sessions, training = labelled(uneven()), TrainingConfig(smoothing_bins=3.0)
    some = [sessions[0], *uneven()[1:]]
    by_labels, by_none = (
        initialise_sessions(each, small(), training) for each in (sessions, uneven())
    )
    with pytest.warns(UserWarning, match="2 of 3 sessions have no condition labels"):
        by_some = initialise_sessions(some, small(), training)
    assert not np.allclose(by_labels[1].weight, by_none[1].weight, atol=1e-2)
    np.testing.assert_array_equal(by_some[1].weight, by_none[1].weight)
    gaussian = [
        initialise_sessions(each, small(likelihood="gaussian"), training)
        for each in (sessions, uneven())
    ]
    np.testing.assert_array_equal(gaussian[0][1].weight, gaussian[1][1].weight)


def test_readouts_of_labelled_sessions_are_regressions_on_the_common_paths_with_the_prior_of_all(
    uneven, small
):
    """The prior's variance is that of readouts regressed with a broad one."""
    sessions = labelled(uneven())
    paths = common_trajectories(
        sessions, ["x", "y", "z"], shared_bins(sessions, ["x", "y", "z"]), 2, 3.0
    )
    broad = np.concatenate(
        [
            init_by_regression(paths, ["x", "y", "z"], each, np.ones(2), 3.0).weight
            for each in sessions
        ]
    )
    starts = initialise_sessions(sessions, small(), TrainingConfig(smoothing_bins=3.0))
    for start, counts in zip(starts, sessions, strict=True):
        expected = init_by_regression(paths, ["x", "y", "z"], counts, broad.var(0) + 1e-4, 3.0)
        np.testing.assert_allclose(start.weight, expected.weight, atol=1e-6)
        np.testing.assert_allclose(start.bias, expected.bias, atol=1e-6)


def test_a_new_model_has_the_noise_and_the_width_of_the_posterior_that_were_asked_for(
    uneven, small
):
    sessions = uneven()
    training = TrainingConfig(
        process_noise=0.07, posterior_log_var=-2.5, seed=3, smoothing_bins=3.0
    )
    starts = initialise_sessions(sessions, small(), training)
    model = initialised_model(sessions, starts, small(), training)
    torch.testing.assert_close(model.log_q.detach().exp(), torch.full((3, 2), 0.07))
    torch.testing.assert_close(model.latent_encoder.head.bias[2:].detach(), torch.full((2,), -2.5))
    random = build_model(small(), [counts.n_units for counts in sessions], seed=3)
    assert torch.equal(model.dynamics.flow.first.weight, random.dynamics.flow.first.weight)
    for row, (start, counts) in enumerate(zip(starts, sessions, strict=True)):
        np.testing.assert_allclose(
            model.likelihood.weight[row, : counts.n_units].detach(), start.weight, rtol=1e-5
        )
        rows = counts.counts[counts.observed]
        np.testing.assert_allclose(
            model.readin.sd[row, : counts.n_units], np.maximum(rows.std(0), 1e-2), rtol=1e-4
        )
        np.testing.assert_allclose(
            model.readin.mean[row, : counts.n_units], np.maximum(rows.mean(0), 1e-4), rtol=1e-4
        )
