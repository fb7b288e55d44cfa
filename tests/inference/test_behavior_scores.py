"""Decoding of behaviour: decoders are fitted to the windows that trained the model, and an r² that
means nothing is not given."""

from dataclasses import replace

import numpy as np
import pytest

from metadyn.inference.baselines import LAGS, spike_decoders
from metadyn.inference.decoding import fit_decoder
from metadyn.inference.infer import infer
from metadyn.inference.scores import score


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
