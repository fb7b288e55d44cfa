"""Decoding against plain least squares and scikit-like loops; a decoder never meets the windows
that it is read on."""

import numpy as np
import pytest

from metadyn.inference.decoding import (
    PENALTIES,
    best_penalty,
    consecutive_folds,
    fit_decoder,
    interleaved_folds,
    moments_by_fold,
    r2,
    r2_by_channel,
    varies,
    with_past,
)


@pytest.fixture
def linear():
    """Behaviour that is linear in two of four features, with noise; a tenth of the bins unknown,
    more of channel 1."""
    rng = np.random.default_rng(0)
    features = rng.standard_normal((20, 30, 4)) + 2
    behavior = (
        features[..., :2] @ np.array([[1.0, 0.5], [-0.3, 2.0]])
        + 3
        + 0.5 * rng.standard_normal((20, 30, 2))
    )
    behavior[rng.random((20, 30)) < 0.1] = np.nan
    behavior[:4, 5:, 1] = np.nan
    features[rng.random((20, 30)) < 0.05] = np.nan
    return features, behavior


def least_squares(features, behavior, penalty):
    """Ridge by rows of penalty added, one channel (trial, time): weight and intercept; the penalty
    of mean feature variance."""
    known = np.isfinite(behavior) & np.isfinite(features).all(-1)
    x, y = features[known], behavior[known]
    shrink = penalty * ((x - x.mean(0)) ** 2).sum() / x.shape[1]
    rows = np.concatenate([x - x.mean(0), np.sqrt(shrink) * np.eye(x.shape[1])])
    weight = np.linalg.lstsq(
        rows, np.concatenate([y - y.mean(), np.zeros(x.shape[1])]), rcond=None
    )[0]
    return weight, y.mean() - x.mean(0) @ weight


def chosen_by_loops(features, behavior, fold):
    """The penalty of least squared error over folds, each predicted by the others, all channels of
    a bin known together."""
    errors = np.zeros(len(PENALTIES))
    for place, penalty in enumerate(PENALTIES):
        for each in np.unique(fold):
            for channel in range(behavior.shape[-1]):
                weight, intercept = least_squares(
                    features[fold != each], behavior[fold != each, :, channel], penalty
                )
                off = (
                    behavior[fold == each, :, channel] - features[fold == each] @ weight - intercept
                )
                errors[place] += np.nansum(off**2)
    return PENALTIES[errors.argmin()], errors.min()


@pytest.mark.parametrize("penalty", [1e-4, 1.0, 100.0])
def test_a_ridge_from_sums_is_least_squares_with_rows_of_penalty_added(linear, penalty):
    features, behavior = linear
    folds = moments_by_fold(features, behavior[..., :1], 1, interleaved_folds(20))
    weight, intercept = sum(list(folds.values())[1:], folds[0]).ridge(0.3, penalty)[1]
    expected = least_squares(features, behavior[..., 0], penalty)
    np.testing.assert_allclose(weight[:, 0], expected[0], rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(intercept, expected[1], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("folds", [interleaved_folds, consecutive_folds])
def test_the_penalty_is_that_of_plain_cross_validation(linear, folds):
    """Few trials and noise in many features, so that the penalty matters."""
    rng = np.random.default_rng(2)
    features = rng.standard_normal((11, 6, 25))
    behavior = features[..., :1] + 2 * rng.standard_normal((11, 6, 1))
    error, penalty = best_penalty(list(moments_by_fold(features, behavior, 1, folds(11)).values()))
    expected = chosen_by_loops(features, behavior, folds(11))
    assert PENALTIES[0] < penalty < PENALTIES[-1]
    assert (penalty, error) == (expected[0], pytest.approx(expected[1]))


def test_each_channel_is_learned_where_it_is_known(linear):
    """One channel's unknown bins take nothing from its neighbour."""
    features, behavior = linear
    decoder = fit_decoder(features, behavior)
    for channel in range(2):
        alone = fit_decoder(features, behavior[..., channel : channel + 1])
        np.testing.assert_allclose(decoder(features)[..., channel], alone(features)[..., 0])
    assert not np.allclose(
        decoder.weight[:, 0], fit_decoder(features[4:], behavior[4:]).weight[:, 0]
    )


def test_a_channel_that_is_known_nowhere_is_decoded_as_nan(linear):
    features, behavior = linear
    behavior[..., 0] = np.nan
    decoded = fit_decoder(features, behavior)(features)
    assert np.isnan(decoded[..., 0]).all()
    assert np.isfinite(decoded[..., 1]).any()


def test_past_bins_stand_beside_each_bin():
    features = np.random.default_rng(0).random((2, 6, 3))
    past = with_past(features, 4)
    for trial, time, lag in np.ndindex(2, 6, 4):
        np.testing.assert_array_equal(
            past[trial, time, lag * 3 : lag * 3 + 3], features[trial, max(0, time - lag)]
        )


def test_a_decoder_of_past_bins_is_one_of_features_put_side_by_side(linear):
    features, behavior = linear
    with_lags, side_by_side = (
        fit_decoder(features, behavior, 3),
        fit_decoder(with_past(features, 3), behavior),
    )
    np.testing.assert_allclose(with_lags(features), side_by_side(with_past(features, 3)))


def test_r2_is_beside_the_mean_that_is_given_over_the_values_that_are_known():
    true, predicted = np.random.default_rng(0).random((2, 3, 7, 2))
    true[1, 2:, 0], true[2, 1] = np.nan, np.nan
    mean, error, total = np.array([0.2, 0.9]), np.zeros(2), np.zeros(2)
    for trial, time, channel in np.ndindex(3, 7, 2):
        if np.isfinite(true[trial, time, channel]):
            error[channel] += (true[trial, time, channel] - predicted[trial, time, channel]) ** 2
            total[channel] += (true[trial, time, channel] - mean[channel]) ** 2
    assert r2(true, predicted, mean) == pytest.approx(1 - error.sum() / total.sum())
    np.testing.assert_allclose(r2_by_channel(true, predicted, mean), 1 - error / total)


@pytest.mark.parametrize("level", [0.0, 1e-3, 5.0, -4e6])
def test_what_does_not_vary_has_no_r2_whatever_its_level_and_rounding(level):
    """Interpolated between equal samples, a constant comes back with the last bits changed."""
    rng = np.random.default_rng(0)
    share = rng.random((4, 9, 1))
    constant = level * (1 - share) + level * share
    both = np.concatenate([constant, rng.random((4, 9, 1))], -1)
    mean = np.array([level / 2, 0.5])  # it had another value in training
    assert varies(both).tolist() == [False, True]
    assert np.isnan(r2(constant, constant, mean[:1]))
    assert np.isnan(r2_by_channel(both, both, mean)).tolist() == [True, False]
    assert r2(both, both, mean) == 1.0


def test_what_is_not_predicted_is_no_part_of_r2_nor_of_what_varies():
    """Bins that a decoder says NaN of, as where nothing was observed: the same as without them."""
    true, predicted = np.random.default_rng(0).random((2, 4, 7, 2))
    true[:, 3:, 1] = 0.5  # varies only where it is not predicted
    predicted[:, :3] = np.nan
    mean = np.array([0.2, 0.9])
    assert np.isfinite(r2(true, predicted, mean))
    assert r2(true, predicted, mean) == r2(true[:, 3:], predicted[:, 3:], mean)
    by_channel = r2_by_channel(true, predicted, mean)
    np.testing.assert_array_equal(by_channel, r2_by_channel(true[:, 3:], predicted[:, 3:], mean))
    assert np.isnan(by_channel).tolist() == [False, True]
