"""Simulated sessions: the same for the same seed, spikes that are the counts, flows that do what their equation says."""

import dataclasses

import numpy as np
import pytest

from metadyn.data import synthetic
from metadyn.data.synthetic import FAMILIES, STEP, integrate, simulate
from metadyn.errors import ConfigError


@pytest.fixture(scope="module")
def sessions():
    return simulate("limit-cycle", n_sessions=3, n_trials=6, n_bins=40, units=(4, 9), seed=1)


def test_the_same_seed_gives_the_same_sessions(sessions):
    for one, other in zip(
        sessions, simulate("limit-cycle", n_sessions=3, n_trials=6, n_bins=40, units=(4, 9), seed=1), strict=True
    ):
        for field in dataclasses.fields(one):
            np.testing.assert_array_equal(getattr(one, field.name), getattr(other, field.name), err_msg=field.name)


def test_another_seed_gives_other_sessions(sessions):
    others = simulate("limit-cycle", n_sessions=3, n_trials=6, n_bins=40, units=(4, 9), seed=2)
    assert all(not np.array_equal(one.latents, other.latents) for one, other in zip(sessions, others, strict=True))


def test_a_session_does_not_depend_on_how_many_follow(sessions):
    first = simulate("limit-cycle", parameters=[0.25], n_trials=6, n_bins=40, units=(4, 9), seed=1)[0]
    np.testing.assert_array_equal(first.spike_times, sessions[0].spike_times)


def test_spike_times_binned_by_histogram_are_the_counts(sessions):
    for session in sessions:
        n_trials, n_bins, n_units = session.counts.shape
        for unit in range(n_units):
            times = session.spike_times[session.spike_index[unit] : session.spike_index[unit + 1]]
            assert (np.diff(times) >= 0).all()
            for trial in range(n_trials):
                edges = session.trial_start[trial] + np.arange(n_bins + 1) * session.bin_width
                np.testing.assert_array_equal(np.histogram(times, edges)[0], session.counts[trial, :, unit])
        assert len(session.spike_times) == session.spike_index[-1] == session.counts.sum()


def test_trials_do_not_touch(sessions):
    for session in sessions:
        stop = session.trial_start + session.counts.shape[1] * session.bin_width
        np.testing.assert_allclose(session.trial_start[1:] - stop[:-1], 0.5)


@pytest.mark.parametrize("speed", [0.25, 2.0, 5.0])
def test_noise_free_limit_cycles_turn_at_their_speed(monkeypatch, speed):
    """An Euler step of a rotation by ω dt turns by arctan(ω dt): 1.3 % less at the fastest."""
    monkeypatch.setattr(synthetic, "NOISE", 0.0)
    path = integrate(FAMILIES["limit-cycle"], speed, 5, 400, np.random.default_rng(0))[:, 200:]
    angle = np.unwrap(np.arctan2(path[..., 1], path[..., 0]), axis=1)
    velocity = np.diff(angle, axis=1).mean() / STEP
    assert velocity == pytest.approx(speed, rel=0.02)
    radius = np.linalg.norm(path, axis=-1)
    assert radius == pytest.approx(1.0, abs=0.3)
    assert radius.std() < 1e-6


def test_the_noise_of_a_step_has_its_standard_deviation():
    """Increments less the drift, over the step: SD 0.5 within four standard errors."""
    path = integrate(FAMILIES["limit-cycle"], 2.0, 200, 50, np.random.default_rng(0))
    drift = synthetic.limit_cycle_flow(path[:, :-1], 2.0)
    noise = np.diff(path, axis=1) / STEP - drift
    assert abs(noise.std() - 0.5) < 4 * 0.5 / np.sqrt(2 * noise.size)
    assert abs(noise.mean()) < 4 * 0.5 / np.sqrt(noise.size)


def test_mean_rates_lie_in_the_range_asked_for():
    """The mean over the ring of exp(C z) is a Bessel function, not the log-normal mean that the offset allows for, and a slow
    cycle does not visit all of it in a trial: within a factor of 1.7 of the range."""
    for session in simulate("limit-cycle", n_sessions=4, n_trials=24, n_bins=100, rate_range=(5.0, 30.0), seed=0):
        rates = session.rates.mean((0, 1))
        assert rates.min() > 5 / 1.7
        assert rates.max() < 30 * 1.7
        assert session.counts.mean() / session.bin_width == pytest.approx(rates.mean(), rel=0.1)


def test_rates_are_log_linear_in_the_latents(sessions):
    for session in sessions:
        z = session.latents.reshape(-1, 2)
        design = np.concatenate([z, np.ones((len(z), 1))], 1)
        log_rates = np.log(session.rates).reshape(len(z), -1)
        residual = log_rates - design @ np.linalg.lstsq(design, log_rates, rcond=None)[0]
        assert np.abs(residual).max() < 1e-9


def test_without_parameters_the_range_is_covered_evenly():
    speeds = [session.parameters["speed"] for session in simulate("limit-cycle", n_sessions=5, n_trials=1, n_bins=3)]
    np.testing.assert_allclose(np.diff(speeds), (5.0 - 0.25) / 4)
    assert (speeds[0], speeds[-1]) == (0.25, 5.0)


def test_an_unknown_family_is_told_which_there_are():
    with pytest.raises(ConfigError, match=r"limit_cycle(?s:.*)limit-cycle(?s:.*)metadyn simulate"):
        simulate("limit_cycle")
