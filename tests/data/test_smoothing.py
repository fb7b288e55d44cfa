"""Smoothing against a sum over bins written out, window by window."""

import numpy as np

from metadyn.data.binning import bin_spikes, count_spikes
from metadyn.data.smoothing import smooth
from metadyn.records import Windows


def loop_smooth(counts, observed, sd):
    smoothed = np.zeros(counts.shape)
    for trial, time in zip(*np.nonzero(observed), strict=True):
        weights = [np.exp(-0.5 * ((s - time) / sd) ** 2) * observed[trial, s] * (abs(s - time) <= int(4 * sd + 0.5))
                   for s in range(counts.shape[1])]  # fmt: skip
        smoothed[trial, time] = np.tensordot(weights, counts[trial].astype(float), 1) / np.sum(
            weights
        )
    return smoothed


def test_smoothing_equals_a_normalised_sum_over_observed_bins(make_session):
    rng = np.random.default_rng(0)
    session = make_session(
        [rng.uniform(0, 2, 90), rng.uniform(0, 2, 30)], observed=[[0, 0.45], [0.6, 2]]
    )
    windows = Windows(np.array([0.0, 1.0]), np.array([40, 25]), 0.02, "trials", np.arange(2))
    counts = count_spikes(session, windows)
    smoothed = smooth(counts, 0.05)
    assert smoothed.counts.dtype == np.float32
    np.testing.assert_allclose(
        smoothed.counts, loop_smooth(counts.counts, counts.observed, 2.5), atol=1e-5
    )


def test_a_constant_rate_stays_constant_up_to_every_edge(make_session, make_trials):
    session = make_session(
        [np.arange(100) * 0.02 + 0.001] * 2,
        make_trials([0.0, 1.0], 0.6),
        observed=[[0, 0.3], [0.4, 2]],
    )
    smoothed = bin_spikes(session, smoothing=0.06)
    np.testing.assert_allclose(smoothed.counts[smoothed.observed], 1, rtol=1e-5)
    assert not smoothed.counts[~smoothed.observed].any()
