"""Scores against plain loops: bits per spike, r², baselines; decoders that learn on the windows
that trained the model."""

from dataclasses import replace
from math import lgamma, log

import numpy as np
import pytest
from scipy.stats import poisson

from metadyn.errors import WindowError
from metadyn.inference.baselines import LAGS, spike_decoders
from metadyn.inference.decoding import fit_decoder
from metadyn.inference.forecast import forecast
from metadyn.inference.infer import infer
from metadyn.inference.scores import (
    PREDICTORS,
    bits_per_spike,
    hidden_rates,
    last_values,
    previous_bins,
    score,
    scores_of_entries,
)


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


def test_scores_of_entries_are_those_of_a_loop_over_them(entries):
    """r² beside the mean and bits by scipy's Poisson: over all, at each step over trials and units,
    of each unit."""
    counts, expected, mean, where = entries
    places = {
        "": lambda time, unit: (),
        "_at_step": lambda time, unit: time,
        "_of_unit": lambda time, unit: unit,
    }
    found = scores_of_entries(counts, {"model": expected}, mean, where, ("r2", "bits"))
    for suffix, place in places.items():
        shape = {"": (), "_at_step": 12, "_of_unit": 3}[suffix]
        error, total, gain, spikes = (
            np.zeros((4, *np.atleast_1d(shape).astype(int))) if shape else np.zeros(4)[:, None]
        )
        for trial, time, unit in np.argwhere(where):
            at, y, rate = (
                place(time, unit) or 0,
                counts[trial, time, unit],
                expected[trial, time, unit],
            )
            error[at] += (y - rate) ** 2
            total[at] += (y - mean[unit]) ** 2
            gain[at] += (poisson.logpmf(y, rate) - poisson.logpmf(y, mean[unit])) / log(2)
            spikes[at] += y
        total[total == 0], spikes[spikes == 0] = (
            np.nan,
            np.nan,
        )  # steps of which nothing is scored, or no spike
        np.testing.assert_allclose(found["r2" + suffix]["model"], np.squeeze(1 - error / total))
        np.testing.assert_allclose(found["bits" + suffix]["model"], np.squeeze(gain / spikes))


def test_a_unit_that_is_silent_where_it_is_scored_has_no_score_of_its_own_but_counts_in_the_sum(
    entries,
):
    counts, expected, mean, where = entries
    counts[..., 1] = 0
    found = scores_of_entries(counts, {"model": expected}, mean, where, ("r2", "bits"))
    assert np.isnan(found["r2_of_unit"]["model"]).tolist() == [False, True, False]
    assert np.isnan(found["bits_of_unit"]["model"]).tolist() == [False, True, False]
    others = scores_of_entries(
        counts[..., [0, 2]],
        {"model": expected[..., [0, 2]]},
        mean[[0, 2]],
        where[..., [0, 2]],
        ("r2", "bits"),
    )
    assert (
        found["bits"]["model"] < others["bits"]["model"] - 0.05
    )  # what is expected of the silent unit is paid for
    silent = scores_of_entries(
        np.zeros_like(counts), {"model": expected}, mean, where, ("r2", "bits")
    )
    assert np.isnan([silent["r2"]["model"], silent["bits"]["model"]]).all()


def test_previous_bins_are_means_of_what_was_shown_before_and_of_one_mean(entries):
    counts, _, mean, hidden = entries
    out = previous_bins(counts, mean, hidden)
    for trial, time, unit in np.ndindex(counts.shape):
        before = slice(max(0, time - 5), time)
        shown = counts[trial, before, unit][~hidden[trial, before, unit]]
        assert out[trial, time, unit] == pytest.approx(np.mean([*shown, mean[unit]]))


@pytest.mark.parametrize("units", [1, 3])
def test_last_values_are_means_of_the_observed_context_bins_and_of_one_mean(entries, units):
    """Observed alike in all units, or unit by unit."""
    counts, _, mean, _ = entries
    observed = np.random.default_rng(2).random((4, 12, units)) < 0.7
    for first, before in ((9, slice(4, 9)), (2, slice(0, 2))):
        for trial, unit in np.ndindex(4, 3):
            known = observed[trial, before, unit % units]
            expected = np.mean([*counts[trial, before, unit][known], mean[unit]])
            assert last_values(counts, observed, mean, first)[trial, unit] == pytest.approx(
                expected
            )


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


def test_decoders_learn_on_training_windows_and_are_read_on_those_scored(trained, counts):
    """Again by hand: latents of both inferred, one decoder, r² beside the mean of training
    behaviour."""
    model, data = trained(), counts(n_trials=14, n_bins=30)
    data = replace(
        data, behavior=np.cos(data.counts[..., :2].cumsum(1) / 9.0) + np.array([0.0, 3.0])
    )
    data.behavior[2, 4:9, 1] = np.nan  # one channel of some bins
    scored, training = data.select(slice(0, 5)), data.select(slice(5, None))
    result = score(model, scored, training)["behavior_r2"]

    def features(part):
        return np.where(part.observed[..., None], infer(model, part)["latent_mean"].values, np.nan)

    decoded = {"model": fit_decoder(features(training), training.behavior, LAGS)(features(scored))}
    decoded |= {name: decode(scored) for name, decode in spike_decoders(training).items()}
    mean = [training.behavior[training.observed][:, channel].mean() for channel in range(2)]
    for name, predicted in decoded.items():
        error = total = 0.0
        for trial, time, channel in np.argwhere(np.isfinite(decoded["model"])):
            y = scored.behavior[trial, time, channel]
            if np.isfinite(y):
                error += (y - predicted[trial, time, channel]) ** 2
                total += (y - mean[channel]) ** 2
        assert float(result.sel(predictor=name)) == pytest.approx(1 - error / total, rel=1e-6), name


@pytest.mark.parametrize("constant", [[0], [0, 1]])
def test_behaviour_that_does_not_vary_has_no_r2_and_says_so(trained, counts, constant):
    """One channel of two, or both; in training they did vary."""
    data = counts(n_trials=12, ragged=False)
    behavior = data.counts[..., :2].cumsum(1).astype(float)
    behavior[:5, :, constant] = 7.3
    result = score(
        trained(),
        *(replace(data, behavior=behavior).select(part) for part in (slice(5), slice(5, None))),
    )
    assert np.isnan(result["behavior_r2_of_channel"].sel(predictor="model")).values.tolist() == [
        True,
        1 in constant,
    ]
    assert np.isnan(result["behavior_r2"].sel(predictor="model")) == (1 in constant)
    assert ("does not vary" in result.attrs["behavior_note"]) == (1 in constant)


def test_the_r2_of_an_angle_is_that_of_its_cosine_and_sine_wherever_its_zero_lies(trained, counts):
    data = counts(n_trials=14, n_bins=30)
    degrees = 47.0 * data.counts[..., :1].cumsum(1)

    def r2_of(behavior, period=None):
        known = replace(data, behavior=behavior, behavior_period=period)
        found = score(trained(), known.select(slice(0, 5)), known.select(slice(5, None)))
        return found["behavior_r2"].sel(predictor=["model", "smoothed_spikes"]).values

    radians = np.deg2rad(degrees)
    expected = r2_of(np.concatenate([np.cos(radians), np.sin(radians)], axis=-1))
    assert np.isfinite(expected).all()
    for zero in (0.0, 211.0):
        np.testing.assert_allclose(
            r2_of((degrees + zero) % 360, np.array([360.0])), expected, rtol=1e-6
        )


def test_without_windows_to_learn_on_behaviour_has_no_r2_and_says_so(trained, counts):
    data = counts(n_trials=8, ragged=False)
    data = replace(data, behavior=data.counts[..., :1].cumsum(1).astype(float))
    for training in (None, data.select([1, 2])):
        result = score(trained(), data.select(slice(3, None)), training)
        assert np.isnan(result["behavior_r2"]).all()
        assert "too few to learn a decoder on" in result.attrs["behavior_note"]


def test_a_context_and_forecast_longer_than_every_window_are_refused_with_a_remedy_that_works(
    trained, counts
):
    with pytest.raises(WindowError, match="--context") as refused:
        score(trained(), counts(), context=15, steps=10)
    _, context, _, steps = refused.value.remedy.split()
    assert (
        score(trained(), counts(), context=int(context), steps=int(steps)).attrs[
            "n_forecast_windows"
        ]
        > 0
    )


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
    with pytest.raises(WindowError, match="--n-bins"):
        score(trained(), one)


def test_smoothed_counts_have_no_bits_per_spike():
    counts, where = np.full((2, 3, 4), 0.5), np.ones((2, 3, 4), bool)
    assert np.isnan(bits_per_spike(counts, counts, counts, where))
