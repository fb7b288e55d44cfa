"""Scores of a model against plain loops, beside the mean rate and the last value."""

from dataclasses import replace
from math import log

import numpy as np
import pytest
from scipy.stats import poisson

from metadyn.errors import WindowError
from metadyn.inference.forecast import forecast
from metadyn.inference.scores import PREDICTORS, hidden_rates, score


def test_hidden_entries_do_not_reach_their_own_prediction(trained, counts):
    model, data = trained(), counts()
    hidden = np.random.default_rng(1).random(data.counts.shape) < 0.3
    other = data.counts.copy()
    other[hidden] = 40
    one, two = (
        hidden_rates(model, each, hidden)
        for each in (data, type(data)(**{**vars(data), "counts": other}))
    )
    np.testing.assert_array_equal(one, two)


def test_forecast_scores_are_those_of_a_plain_loop_over_observed_bins(trained, counts):
    model, data = trained(), counts()
    result = score(model, data, context=6, steps=4)
    expected = forecast(model, data, context=6, steps=4)["rate_mean"].values * 0.05
    mean = model.module.readin.mean[1, :5].numpy(force=True)
    errors, totals, gain, spikes = np.zeros((4, 4))
    for trial, k, unit in np.ndindex(data.n_trials, 4, 5):
        if data.observed[trial, 6 + k]:
            y, rate = float(data.counts[trial, 6 + k, unit]), expected[trial, k, unit]
            errors[k] += (y - rate) ** 2
            totals[k] += (y - mean[unit]) ** 2
            gain[k] += (poisson.logpmf(y, rate) - poisson.logpmf(y, mean[unit])) / log(2)
            spikes[k] += y
    ours = result.sel(predictor="model")
    np.testing.assert_allclose(ours["forecast_r2_at_step"], 1 - errors / totals, rtol=1e-5)
    np.testing.assert_allclose(ours["forecast_bits_per_spike_at_step"], gain / spikes, rtol=1e-4)
    assert float(ours["forecast_r2"]) == pytest.approx(1 - errors.sum() / totals.sum(), rel=1e-5)
    assert float(ours["forecast_bits_per_spike"]) == pytest.approx(
        gain.sum() / spikes.sum(), rel=1e-4
    )


def test_last_value_scores_are_those_of_a_loop_over_observed_bins(trained, counts):
    """Of forecasts, and of hidden entries: an unobserved bin is no bin of silence, as context or as
    what is scored."""
    model, data = trained(), counts(n_bins=23)
    assert not data.observed[:, :7].all()
    result = score(model, data, context=6, steps=4, seed=3)
    mean = model.module.readin.mean[1, :5].numpy(force=True)
    hidden = np.random.default_rng(3).random(data.counts.shape) < 0.2

    def guess(trial, before, unit, shown):
        return np.mean(
            [
                *(
                    data.counts[trial, t, unit]
                    for t in before
                    if data.observed[trial, t] and shown[t]
                ),
                mean[unit],
            ]
        )

    gain, spikes, error, total = np.zeros((4, 2))
    for trial, time, unit in np.argwhere(
        np.broadcast_to(data.observed[..., None], data.counts.shape)
    ):
        y = float(data.counts[trial, time, unit])
        guesses = {}
        if 6 <= time < 10:
            guesses[0] = guess(trial, range(1, 6), unit, np.ones(23, bool))
        if hidden[trial, time, unit]:
            guesses[1] = guess(trial, range(max(0, time - 5), time), unit, ~hidden[trial, :, unit])
        for kind, rate in guesses.items():
            gain[kind] += (poisson.logpmf(y, rate) - poisson.logpmf(y, mean[unit])) / log(2)
            error[kind], total[kind] = (
                error[kind] + (y - rate) ** 2,
                total[kind] + (y - mean[unit]) ** 2,
            )
            spikes[kind] += y
    its = result.sel(predictor="last_value")
    bits = [float(its[name]) for name in ("forecast_bits_per_spike", "bits_per_spike")]
    r2s = [float(its[name]) for name in ("forecast_r2", "reconstruction_r2")]
    np.testing.assert_allclose(bits, gain / spikes, rtol=1e-6)
    np.testing.assert_allclose(r2s, 1 - error / total, rtol=1e-6)


def test_what_counts_say_of_unobserved_bins_changes_no_score(trained, counts):
    data = counts(n_trials=9)
    data = replace(data, behavior=data.counts[..., :2].cumsum(1).astype(float))
    garbled = replace(data, counts=np.where(data.observed[..., None], data.counts, 9))
    one, two = (
        score(trained(), each.select(slice(6)), each.select(slice(6, None)))
        for each in (data, garbled)
    )
    for name in one.data_vars:
        np.testing.assert_allclose(one[name], two[name], atol=1e-6, err_msg=name)


def test_baselines_stand_beside_the_model_and_the_mean_scores_0_in_all(trained, counts):
    data = counts(n_trials=12)
    data = replace(data, behavior=data.counts[..., :2].cumsum(1).astype(float))
    result = score(trained(), data.select(slice(5)), data.select(slice(5, None)))
    assert result["predictor"].values.tolist() == PREDICTORS
    for name, values in result.sel(predictor="mean_rate").items():
        np.testing.assert_allclose(values, 0, atol=1e-12, err_msg=name)
    assert result["step"].units == "s"
    of_spikes, of_behavior = (
        result.drop_vars(["behavior_r2", "behavior_r2_of_channel"]),
        result[["behavior_r2"]],
    )
    for name, values in of_spikes.items():
        measured = np.isfinite(values.values).reshape(5, -1).all(1).tolist()
        assert measured == [True, True, True, False, False], name
    assert np.isfinite(of_behavior.behavior_r2).values.tolist() == [True, True, False, True, True]
    assert "behavior_r2" not in score(trained(), counts())


def test_a_context_and_forecast_longer_than_every_window_are_refused_with_a_remedy_that_works(
    trained, counts
):
    with pytest.raises(WindowError, match="context=") as refused:
        score(trained(), counts(), context=15, steps=10)
    scores = score(trained(), counts(), **refused.value.options)
    assert scores.attrs["n_forecast_windows"] > 0


def with_a_window_of_one_bin(data):
    """A last window of which one bin is left, as at the end of a continuous recording."""
    n_bins, observed = data.windows.n_bins.copy(), data.observed.copy()
    n_bins[-1], observed[-1, 1:] = 1, False
    return replace(
        data,
        counts=data.counts * observed[..., None],
        observed=observed,
        windows=replace(data.windows, n_bins=n_bins),
    )


def test_a_window_of_one_bin_takes_no_part_in_forecasts(trained, counts):
    data = counts(ragged=False)
    result, others = (
        score(trained(), with_a_window_of_one_bin(data)),
        score(trained(), data.select(trials=slice(5))),
    )
    assert (
        result.attrs["n_forecast_windows"],
        result.attrs["context_bins"],
        result.sizes["step"],
    ) == (5, 6, 14)
    for name in (
        "forecast_r2",
        "forecast_r2_at_step",
        "forecast_bits_per_spike",
        "forecast_bits_per_spike_at_step",
    ):
        np.testing.assert_allclose(result[name], others[name], err_msg=name)
    assert np.isfinite(result.reconstruction_r2[:3]).all()


def test_windows_of_one_bin_alone_cannot_be_scored(trained, counts):
    one = with_a_window_of_one_bin(counts()).select(trials=[5])
    with pytest.raises(WindowError, match="`n_bins`"):
        score(trained(), one)
