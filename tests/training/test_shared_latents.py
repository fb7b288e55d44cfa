"""The frame that sessions share through their conditions, against plain loops."""

from dataclasses import replace

import numpy as np
import pytest

from metadyn.records import Source, TrialCounts, Windows
from metadyn.training.alignment.shared_latents import mean_latents
from metadyn.training.initial.condition_averages import (
    common_trajectories,
    condition_totals,
    shared_bins,
)
from metadyn.training.initial.conditions import init_from_conditions, poisson_regression, readout_on

LABELS = np.array(["left", "right", "left", "up", "right", "left", "right", "left"])


@pytest.fixture
def sessions(simulated):
    rng = np.random.default_rng(0)
    out = []
    for counts in simulated(n_sessions=2):
        observed = rng.random(counts.observed.shape) < 0.8
        out.append(
            replace(
                counts,
                observed=observed,
                counts=counts.counts * observed[..., None],
                condition=LABELS,
            )
        )
    return out


def test_condition_totals_are_those_of_a_plain_loop(sessions):
    total, trials = condition_totals(sessions[0], ["left", "right"], 20)
    for row, label in enumerate(["left", "right"]):
        members = [trial for trial in range(8) if LABELS[trial] == label]
        np.testing.assert_array_equal(
            total[row], sum(sessions[0].counts[trial, :20].astype(float) for trial in members)
        )
        np.testing.assert_array_equal(
            trials[row, :, 0],
            sum(sessions[0].observed[trial, :20].astype(float) for trial in members),
        )


def test_mean_latents_are_those_of_a_plain_loop_over_the_trials_of_all_sessions(sessions):
    sessions[1] = replace(sessions[1], condition=np.where(LABELS == "up", "left", LABELS))
    latents = [np.random.default_rng(row).random((8, 24, 2)) for row in range(2)]
    labels, mean = mean_latents(sessions, latents)
    assert labels == ["left", "right"]
    for row, label in enumerate(labels):
        members = [
            z[trial]
            for each, z in zip(sessions, latents, strict=True)
            for trial in range(8)
            if each.condition[trial] == label
        ]
        np.testing.assert_allclose(mean[row], np.mean(members, 0))


def test_sessions_without_labels_share_no_latents(sessions):
    labels, mean = mean_latents(
        [sessions[0], replace(sessions[1], condition=None)], [np.zeros((8, 24, 2))] * 2
    )
    assert labels == []
    assert mean.shape == (0, 24, 2)


def test_sessions_that_share_conditions_start_in_one_frame():
    """Two sessions of one latent path a condition, other units: latents agree between them without
    being turned."""
    rng = np.random.default_rng(0)
    time = np.linspace(0, 2 * np.pi, 40)
    paths = [np.stack([np.cos(time + 2 * k), np.sin(2 * time + k)], -1) for k in range(3)]
    sessions = []
    for key in ("a", "b"):
        weight, condition = rng.normal(0, 0.7, (25, 2)), np.repeat(["x", "y", "z"], 8)
        z = np.stack([paths["xyz".index(label)] for label in condition])
        sessions.append(made_counts(key, rng.poisson(0.4 * np.exp(z @ weight.T)), condition))
    one, other = init_from_conditions(sessions, 2, 3.0)
    mean = [
        np.stack([start.latents[k * 8 : k * 8 + 8].mean(0) for k in range(3)]).reshape(-1, 2)
        for start in (one, other)
    ]
    for axis in range(2):
        assert np.corrcoef(mean[0][:, axis], mean[1][:, axis])[0, 1] > 0.9


def test_windows_that_were_broken_off_neither_shorten_the_frame_nor_change_it_behind_their_end():
    """Six windows of 3 bins among 48 of 40: the frame of the whole windows alone is the second
    road."""
    whole = labelled_paths()
    broken = [with_broken_off(whole[0], n_windows=6, n_bins=3), whole[1]]
    labels = ["x", "y", "z"]
    assert shared_bins(broken, labels) == shared_bins(whole, labels) == 40
    one, other = (
        common_trajectories(each, labels, 40, 2, 3.0).reshape(-1, 2) for each in (whole, broken)
    )
    for axis in range(2):
        assert abs(np.corrcoef(one[:, axis], other[:, axis])[0, 1]) > 0.99
    total, windows = condition_totals(broken[0], labels, 40)
    np.testing.assert_array_equal(total[:, 3:], condition_totals(whole[0], labels, 40)[0][:, 3:])
    np.testing.assert_array_equal(windows[:, :, 0], np.repeat([[10.0] * 3 + [8.0] * 37], 3, 0))


def test_the_bins_of_the_frame_are_those_that_half_of_the_labelled_windows_have_in_every_session():
    rng = np.random.default_rng(3)
    sessions = []
    for counts in labelled_paths():
        n_bins = rng.integers(2, 41, counts.n_trials)
        condition = np.where(rng.random(counts.n_trials) < 0.3, "", counts.condition)
        sessions.append(
            replace(counts, windows=replace(counts.windows, n_bins=n_bins), condition=condition)
        )
    expected = 40
    for counts in sessions:
        lengths = [
            n
            for n, label in zip(counts.windows.n_bins, counts.condition, strict=True)
            if label in ("x", "z")
        ]
        expected = min(
            expected,
            max(b for b in range(1, 41) if sum(n >= b for n in lengths) >= len(lengths) / 2),
        )
    assert shared_bins(sessions, ["x", "z"]) == expected


def test_mean_latents_of_uneven_windows_are_of_those_that_last_so_long_and_nan_where_these_are_too_few():
    rng = np.random.default_rng(4)
    sessions = [
        replace(c, windows=replace(c.windows, n_bins=rng.integers(10, 41, c.n_trials)))
        for c in labelled_paths()
    ]
    for counts, longer in zip(
        sessions, (0, 2), strict=True
    ):  # all but two of the 18 windows of a condition are short
        of_y = np.flatnonzero(counts.condition == "y")
        counts.windows.n_bins[of_y] = np.where(np.arange(len(of_y)) < longer, 40, 12)
    latents = [rng.normal(size=(*counts.counts.shape[:2], 2)) for counts in sessions]
    labels, mean = mean_latents(sessions, latents)
    pairs = list(zip(sessions, latents, strict=True))
    for row, label in enumerate(labels):
        of = [
            (c.windows.n_bins[n], z[n])
            for c, z in pairs
            for n in range(c.n_trials)
            if c.condition[n] == label
        ]
        for time in range(mean.shape[1]):
            values = [z[time] for n_bins, z in of if n_bins > time]
            if len(values) >= 3 or 2 * len(values) >= len(of):
                np.testing.assert_allclose(mean[row, time], np.mean(values, 0))
            else:
                assert np.isnan(mean[row, time]).all()
    assert np.isnan(mean).any()


def test_a_units_missing_entries_have_no_weight_in_its_readout():
    """Unit 1 is lost in two windows of three; its readout without these windows is the second
    road."""
    rng = np.random.default_rng(5)
    counts = labelled_paths()[0]
    there = np.arange(counts.n_trials) % 3 == 0
    entries = np.broadcast_to(counts.observed[..., None], counts.counts.shape).copy()
    entries[~there, :, 1] = False
    lost = replace(counts, counts=counts.counts * entries, unit_observed=entries)
    frame, labels, variance = rng.normal(size=(3, 40, 2)), ["x", "y", "z"], np.ones(2)
    weight, bias = readout_on(frame, labels, lost, variance)
    expected_weight, expected_bias = readout_on(
        frame, labels, counts.select(trials=there, units=[1]), variance
    )
    np.testing.assert_allclose(weight[1], expected_weight[0], atol=1e-8)
    np.testing.assert_allclose(bias[1], expected_bias[0], atol=1e-8)
    others = [unit for unit in range(counts.n_units) if unit != 1]
    np.testing.assert_allclose(
        weight[others],
        readout_on(frame, labels, counts.select(units=others), variance)[0],
        atol=1e-8,
    )


def test_bins_of_the_frame_that_are_not_known_have_no_weight_and_shorter_windows_are_no_fault():
    rng = np.random.default_rng(6)
    counts = labelled_paths()[0]
    frame, labels, variance = rng.normal(size=(3, 55, 2)), ["x", "y", "z"], np.ones(2)
    frame[1, 20:] = np.nan
    known = [(row, time) for row in range(3) for time in range(40) if not (row == 1 and time >= 20)]
    spikes = [counts.counts[counts.condition == labels[row], time].sum(0) for row, time in known]
    windows = [float((counts.condition == labels[row]).sum()) for row, _ in known]
    exposure = np.array(windows)[:, None]
    expected = poisson_regression(
        np.array([frame[each] for each in known]), np.array(spikes, float), exposure, variance
    )
    for found, wanted in zip(readout_on(frame, labels, counts, variance), expected, strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-8)


def labelled_paths():
    """Sessions of 24 and 30 windows of 40 bins, of 25 and 12 units that follow one latent path a
    condition."""
    rng = np.random.default_rng(0)
    time = np.linspace(0, 2 * np.pi, 40)
    paths = {
        label: np.stack([np.cos(time + 2 * k), np.sin(2 * time + k)], -1)
        for k, label in enumerate("xyz")
    }
    sessions = []
    for key, repeats, n_units in (("a", 8, 25), ("b", 10, 12)):
        weight, condition = rng.normal(0, 0.7, (n_units, 2)), np.repeat(["x", "y", "z"], repeats)
        z = np.stack([paths[label] for label in condition])
        sessions.append(made_counts(key, rng.poisson(0.4 * np.exp(z @ weight.T)), condition))
    return sessions


def with_broken_off(counts, n_windows, n_bins):
    """The session with as many more windows, which last so many bins."""
    every = np.r_[
        np.arange(counts.n_trials),
        np.arange(0, counts.n_trials, counts.n_trials // n_windows)[:n_windows],
    ]
    more = counts.select(trials=every)
    lengths = np.where(np.arange(len(every)) < counts.n_trials, more.windows.n_bins, n_bins)
    observed = np.arange(more.counts.shape[1]) < lengths[:, None]
    windows = replace(more.windows, n_bins=lengths, start=np.arange(len(every)) * 10.0)
    return replace(
        more, counts=more.counts * observed[..., None], observed=observed, windows=windows
    )


def made_counts(key, counts, condition):
    n_trials, n_bins, n_units = counts.shape
    windows = Windows(
        np.arange(n_trials) * 10.0, np.full(n_trials, n_bins), 0.02, None, np.full(n_trials, -1)
    )
    observed = np.ones((n_trials, n_bins), bool)
    return TrialCounts(
        key, Source(), counts, observed, windows, np.arange(n_units), condition=condition
    )
