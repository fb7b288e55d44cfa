"""Decoding against plain least squares; the decoder never sees the trials it is scored on."""

from dataclasses import replace

import numpy as np
import pytest

from metadyn.inference import decoding
from metadyn.inference.decoding import cross_predicted, decoding_r2, fit_decoder, r2, ridge, with_past
from metadyn.inference.scores import score


@pytest.fixture
def linear():
    """Behaviour that is linear in two of four features, with noise and bins where it is not known."""
    rng = np.random.default_rng(0)
    features = rng.standard_normal((20, 30, 4))
    behavior = features[..., :2] @ np.array([[1.0, 0.5], [-0.3, 2.0]]) + 3 + 0.5 * rng.standard_normal((20, 30, 2))
    behavior[rng.random((20, 30)) < 0.1] = np.nan
    return features, behavior


@pytest.mark.parametrize("penalty", [1e-4, 1.0, 100.0])
def test_ridge_is_least_squares_with_rows_of_penalty_added(linear, penalty):
    features, behavior = linear
    known = np.isfinite(behavior).all(-1)
    x, y = features[known], behavior[known]
    x, y, means = x - x.mean(0), y - y.mean(0), (x.mean(0), y.mean(0))
    shrink = penalty * (x**2).sum() / 4
    augmented = np.concatenate([x, np.sqrt(shrink) * np.eye(4)]), np.concatenate([y, np.zeros((4, 2))])
    weight = np.linalg.lstsq(*augmented, rcond=None)[0]
    _, decoder = ridge(features, behavior, 0.3, penalty)
    np.testing.assert_allclose(decoder.weight, weight, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(decoder(features), (features - means[0]) @ weight + means[1], rtol=1e-6, atol=1e-9)


def test_predictions_of_a_trial_come_from_the_other_folds(linear):
    features, behavior = linear
    _, predicted = cross_predicted(features, behavior, 3.0, 0.1)
    for trial in range(20):
        others = [other for other in range(20) if other % 5 != trial % 5]
        expected = ridge(features[others], behavior[others], 0.1)[0](features[trial])
        np.testing.assert_allclose(predicted[trial], expected)


def test_the_score_of_a_trial_does_not_depend_on_its_own_behaviour_in_training(linear, monkeypatch):
    """Every call that fits a decoder is handed bins of other folds alone: those of the fold are marked with 1e6."""
    features, behavior = linear
    seen = []

    def watched(x, y):
        seen.append({int(trial) for trial in x[:, 0, -1]})
        return fit_decoder(x, y)

    numbered = np.concatenate([features, np.broadcast_to(np.arange(20.0)[:, None, None], (20, 30, 1))], -1)
    monkeypatch.setattr(decoding, "fit_decoder", watched)
    decoding_r2(numbered, behavior, 1)
    assert seen == [{trial for trial in range(20) if trial % 5 != fold} for fold in range(5)]


def test_linear_behaviour_is_decoded_to_its_noise(linear):
    features, behavior = linear
    noise = 2 * 0.25 / (1.0 + 0.09 + 0.25 + 4.0 + 0.5)
    assert decoding_r2(features, behavior, 1) == pytest.approx(1 - noise, abs=0.03)


def test_behaviour_of_other_trials_cannot_be_decoded(linear):
    """The control: many features, few trials, behaviour shuffled over trials; only one who saw the test would do well."""
    rng = np.random.default_rng(1)
    features, behavior = rng.standard_normal((20, 30, 30)), linear[1][rng.permutation(20)]
    assert decoding_r2(features, behavior, 2) < 0.05


@pytest.mark.parametrize("trials", [1, 2, 3])
def test_few_trials_are_decoded_or_said_to_be_too_few(linear, trials):
    features, behavior = (each[:trials] for each in linear)
    assert np.isnan(decoding_r2(features, behavior, 1)) == (trials < 3)


def test_past_bins_stand_beside_each_bin():
    features = np.random.default_rng(0).random((2, 6, 3))
    past = with_past(features, 4)
    for trial, time, lag in np.ndindex(2, 6, 4):
        np.testing.assert_array_equal(past[trial, time, lag * 3 : lag * 3 + 3], features[trial, max(0, time - lag)])


def test_r2_is_over_known_bins_and_all_channels():
    true, predicted = np.random.default_rng(0).random((2, 3, 7, 2))
    true[1, 2:] = np.nan
    y, p = (np.concatenate([each[0], each[1, :2], each[2]]) for each in (true, predicted))
    expected = 1 - ((y - p) ** 2).sum() / ((y - y.mean(0)) ** 2).sum()
    assert r2(true, predicted) == pytest.approx(expected)


def test_score_decodes_behaviour_beside_its_baselines(trained, counts):
    data = counts(n_trials=12, ragged=False)
    behavior = data.counts[..., :2].cumsum(1).astype(float)
    result = score(trained(), replace(data, behavior=behavior))
    assert result["behavior_r2"].dims == ("predictor",)
    assert result["behavior_r2"].sel({"predictor": "mean_rate"}) == 0
    measured = {name: np.isfinite(result[name].values.reshape(4, -1)).all(1).tolist() for name in result}
    assert measured.pop("behavior_r2") == [True, True, False, True]
    assert all(of_spikes == [True, True, True, False] for of_spikes in measured.values())


def test_smoothed_spikes_are_decoded_as_latents_are_and_know_nothing_of_unobserved_bins(trained, counts):
    """The baseline again: each observed bin a sum over the observed ones, unknown where one of eight bins is not observed."""
    data = counts(n_trials=12, n_bins=40)
    behavior = data.counts[..., :2].cumsum(1).astype(float)
    past = np.full((12, 40, 8 * 5), np.nan)
    smooth = np.full((12, 40, 5), np.nan)
    for trial, time in np.argwhere(data.observed):
        seen = [other for other in np.flatnonzero(data.observed[trial]) if abs(other - time) <= 4]  # 4 SD of a bin
        weights = np.exp(-0.5 * (np.array(seen) - time) ** 2.0)
        smooth[trial, time] = weights @ data.counts[trial, seen] / weights.sum()
    for trial, time, lag in np.ndindex(12, 40, 8):
        past[trial, time, lag * 5 : lag * 5 + 5] = smooth[trial, max(0, time - lag)]
    result = score(trained(), replace(data, behavior=behavior))
    baseline = result["behavior_r2"].sel({"predictor": "smoothed_spikes"})
    assert float(baseline) == pytest.approx(decoding_r2(past, behavior, 1), abs=1e-4)
