"""The frame that sessions share through their conditions, against plain loops."""

from dataclasses import replace

import numpy as np
import pytest

from metadyn.records import Source, TrialCounts, Windows
from metadyn.training.frame import common_frame_starts, condition_totals, mean_latents

LABELS = np.array(["left", "right", "left", "up", "right", "left", "right", "left"])


@pytest.fixture
def sessions(simulated):
    rng = np.random.default_rng(0)
    out = []
    for counts in simulated(n_sessions=2):
        observed = rng.random(counts.observed.shape) < 0.8
        out.append(replace(counts, observed=observed, counts=counts.counts * observed[..., None], condition=LABELS))
    return out


def test_condition_totals_are_those_of_a_plain_loop(sessions):
    total, trials = condition_totals(sessions[0], ["left", "right"], 20)
    for row, label in enumerate(["left", "right"]):
        members = [trial for trial in range(8) if LABELS[trial] == label]
        np.testing.assert_array_equal(total[row], sum(sessions[0].counts[trial, :20].astype(float) for trial in members))
        np.testing.assert_array_equal(trials[row], sum(sessions[0].observed[trial, :20].astype(float) for trial in members))


def test_mean_latents_are_those_of_a_plain_loop_over_the_trials_of_all_sessions(sessions):
    sessions[1] = replace(sessions[1], condition=np.where(LABELS == "up", "left", LABELS))
    latents = [np.random.default_rng(row).random((8, 24, 2)) for row in range(2)]
    labels, mean = mean_latents(sessions, latents)
    assert labels == ["left", "right"]
    for row, label in enumerate(labels):
        members = [
            z[trial] for each, z in zip(sessions, latents, strict=True) for trial in range(8) if each.condition[trial] == label
        ]
        np.testing.assert_allclose(mean[row], np.mean(members, 0))


def test_sessions_without_labels_share_no_latents(sessions):
    labels, mean = mean_latents([sessions[0], replace(sessions[1], condition=None)], [np.zeros((8, 24, 2))] * 2)
    assert labels == []
    assert mean.shape == (0, 24, 2)


def test_sessions_that_share_conditions_start_in_one_frame():
    """Two sessions of one latent path a condition, other units: latents agree between them without being turned."""
    rng = np.random.default_rng(0)
    time = np.linspace(0, 2 * np.pi, 40)
    paths = [np.stack([np.cos(time + 2 * k), np.sin(2 * time + k)], -1) for k in range(3)]
    sessions = []
    for key in ("a", "b"):
        weight, condition = rng.normal(0, 0.7, (25, 2)), np.repeat(["x", "y", "z"], 8)
        z = np.stack([paths["xyz".index(label)] for label in condition])
        sessions.append(made_counts(key, rng.poisson(0.4 * np.exp(z @ weight.T)), condition))
    one, other = common_frame_starts(sessions, 2, 3.0)
    mean = [np.stack([start.latents[k * 8 : k * 8 + 8].mean(0) for k in range(3)]).reshape(-1, 2) for start in (one, other)]
    for axis in range(2):
        assert np.corrcoef(mean[0][:, axis], mean[1][:, axis])[0, 1] > 0.9


def made_counts(key, counts, condition):
    n_trials, n_bins, n_units = counts.shape
    windows = Windows(np.arange(n_trials) * 10.0, np.full(n_trials, n_bins), 0.02, None, np.full(n_trials, -1))
    observed = np.ones((n_trials, n_bins), bool)
    return TrialCounts(key, Source(), counts, observed, windows, np.arange(n_units), condition=condition)
