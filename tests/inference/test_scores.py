"""Scores against plain loops: bits per spike, r², baselines."""

from dataclasses import replace
from math import lgamma, log

import numpy as np
import pytest

from metadyn.errors import WindowError
from metadyn.inference.forecast import forecast
from metadyn.inference.scores import bits_per_spike, hidden_rates, last_values, previous_bins, r2_of, score


@pytest.fixture
def entries():
    rng = np.random.default_rng(0)
    counts, expected = rng.poisson(0.8, (4, 12, 3)).astype(float), rng.uniform(0.2, 2.0, (4, 12, 3))
    return counts, expected, counts.mean((0, 1)), rng.random((4, 12, 3)) < 0.3


def test_bits_per_spike_are_those_of_a_plain_loop(entries):
    counts, expected, mean, where = entries
    total = spikes = 0.0
    for trial, time, unit in np.argwhere(where):
        y, rate = counts[trial, time, unit], expected[trial, time, unit]
        total += y * log(rate) - rate - lgamma(y + 1)
        total -= y * log(mean[unit]) - mean[unit] - lgamma(y + 1)
        spikes += y
    assert bits_per_spike(counts, expected, mean, where) == pytest.approx(total / log(2) / spikes)


def test_the_mean_rate_scores_zero_bits(entries):
    counts, _, mean, where = entries
    assert bits_per_spike(counts, np.broadcast_to(mean, counts.shape), mean, where) == 0


def test_no_rate_scores_more_than_the_counts_themselves(entries):
    counts, expected, mean, where = entries
    best = bits_per_spike(counts, counts, mean, where)
    assert best > bits_per_spike(counts, expected, mean, where)
    assert np.isfinite(best)


def test_r2_is_beside_each_trials_mean_over_observed_bins(counts):
    data, rng = counts(), np.random.default_rng(0)
    expected, where = rng.uniform(0.2, 2.0, (6, 20, 5)), (rng.random((6, 20, 5)) < 0.3) & data.observed[..., None]
    error = total = 0.0
    for trial, time, unit in np.argwhere(where):
        y = float(data.counts[trial, time, unit])
        error += (y - expected[trial, time, unit]) ** 2
        total += (y - data.counts[trial, data.observed[trial], unit].mean()) ** 2
    assert r2_of(data, expected, where) == pytest.approx(1 - error / total)


def test_previous_bins_are_means_of_what_was_shown_before_and_of_one_mean(entries):
    counts, _, mean, hidden = entries
    out = previous_bins(counts, mean, hidden)
    for trial, time, unit in np.ndindex(counts.shape):
        before = slice(max(0, time - 5), time)
        shown = counts[trial, before, unit][~hidden[trial, before, unit]]
        assert out[trial, time, unit] == pytest.approx(np.mean([*shown, mean[unit]]))


def test_last_values_are_means_of_the_observed_context_bins_and_of_one_mean(entries):
    counts, _, mean, _ = entries
    observed = np.random.default_rng(2).random((4, 12)) < 0.7
    for first, before in ((9, slice(4, 9)), (2, slice(0, 2))):
        for trial, unit in np.ndindex(4, 3):
            expected = np.mean([*counts[trial, before, unit][observed[trial, before]], mean[unit]])
            assert last_values(counts, observed, mean, first)[trial, unit] == pytest.approx(expected)


def test_hidden_entries_do_not_reach_their_own_prediction(trained, counts):
    model, data = trained(), counts()
    hidden = np.random.default_rng(1).random(data.counts.shape) < 0.3
    other = data.counts.copy()
    other[hidden] = 40
    one, two = (hidden_rates(model, each, hidden) for each in (data, type(data)(**{**vars(data), "counts": other})))
    np.testing.assert_array_equal(one, two)


def test_forecast_scores_are_those_of_a_plain_loop_over_trials(trained, counts):
    model, data = trained(), counts()
    result = score(model, data, context=6, steps=4)
    expected = forecast(model, data, context=6, steps=4)["rate_mean"].values * 0.05
    errors, totals = np.zeros(4), np.zeros(4)
    for trial in range(data.n_trials):
        activity = data.counts[trial][data.observed[trial]].mean(0)
        for k in range(4):
            if data.observed[trial, 6 + k]:
                y = data.counts[trial, 6 + k].astype(float)
                errors[k] += ((y - expected[trial, k]) ** 2).sum()
                totals[k] += ((y - activity) ** 2).sum()
    np.testing.assert_allclose(result["forecast_r2"].sel({"predictor": "model"}), 1 - errors / totals)
    np.testing.assert_allclose(
        result["forecast_r2_cumulative"].sel({"predictor": "model"}), 1 - errors.cumsum() / totals.cumsum()
    )


def test_baselines_stand_beside_the_model(trained, counts):
    result = score(trained(), counts())
    assert result["predictor"].values.tolist() == ["model", "mean_rate", "last_value", "smoothed_spikes"]
    assert result["bits_per_spike"].sel({"predictor": "mean_rate"}) == 0
    assert result["forecast_bits_per_spike"].sel({"predictor": "mean_rate"}) == 0
    assert result["step"].units == "s"
    assert "behavior_r2" not in result


def test_a_context_and_forecast_longer_than_every_window_are_refused_with_a_remedy_that_works(trained, counts):
    with pytest.raises(WindowError, match="--context") as refused:
        score(trained(), counts(), context=15, steps=10)
    _, context, _, steps = refused.value.remedy.split()
    assert score(trained(), counts(), context=int(context), steps=int(steps)).attrs["n_forecast_windows"] > 0


def with_a_window_of_one_bin(data):
    """A last window of which one bin is left, as at the end of a continuous recording."""
    n_bins, observed = data.windows.n_bins.copy(), data.observed.copy()
    n_bins[-1], observed[-1, 1:] = 1, False
    return replace(
        data, counts=data.counts * observed[..., None], observed=observed, windows=replace(data.windows, n_bins=n_bins)
    )


def test_a_window_of_one_bin_takes_no_part_in_forecasts(trained, counts):
    data = counts(ragged=False)
    result, others = score(trained(), with_a_window_of_one_bin(data)), score(trained(), data.select(trials=slice(5)))
    assert (result.attrs["n_forecast_windows"], result.attrs["context_bins"], result.sizes["step"]) == (5, 6, 14)
    for name in ("forecast_r2", "forecast_r2_cumulative", "forecast_bits_per_spike"):
        np.testing.assert_allclose(result[name], others[name], err_msg=name)
    assert np.isfinite(result.reconstruction_r2[:3]).all()


def test_windows_of_one_bin_alone_cannot_be_scored(trained, counts):
    one = with_a_window_of_one_bin(counts()).select(trials=[5])
    with pytest.raises(WindowError, match="--n-bins"):
        score(trained(), one)


def test_smoothed_counts_have_no_bits_per_spike():
    counts, where = np.full((2, 3, 4), 0.5), np.ones((2, 3, 4), bool)
    assert np.isnan(bits_per_spike(counts, counts, counts, where))
