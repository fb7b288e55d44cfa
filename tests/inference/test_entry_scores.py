"""Scores of entries against plain loops: bits per spike, r², and the guess from a unit's last bins."""

from math import lgamma, log

import numpy as np
import pytest
from scipy.stats import poisson

from metadyn.inference.entry_scores import (
    bits_per_spike,
    last_values,
    previous_bins,
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


def test_smoothed_counts_have_no_bits_per_spike():
    counts, where = np.full((2, 3, 4), 0.5), np.ones((2, 3, 4), bool)
    assert np.isnan(bits_per_spike(counts, counts, counts, where))
