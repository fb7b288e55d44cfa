"""Simulated sessions: the same for the same seed, spikes that are the counts, observations that
follow from the latents."""

import dataclasses

import numpy as np
import pytest

from metadyn.data.binning import count_spikes
from metadyn.data.families import FAMILIES
from metadyn.data.synthetic import as_counts, simulate
from metadyn.errors import ConfigError


@pytest.fixture(scope="module")
def sessions():
    return simulate("limit-cycle", n_sessions=3, n_trials=6, n_bins=40, units=(4, 9), seed=1)


def test_the_same_seed_gives_the_same_sessions(sessions):
    for one, other in zip(
        sessions,
        simulate("limit-cycle", n_sessions=3, n_trials=6, n_bins=40, units=(4, 9), seed=1),
        strict=True,
    ):
        for field in dataclasses.fields(one):
            np.testing.assert_array_equal(
                getattr(one, field.name), getattr(other, field.name), err_msg=field.name
            )


def test_another_seed_gives_other_sessions(sessions):
    others = simulate("limit-cycle", n_sessions=3, n_trials=6, n_bins=40, units=(4, 9), seed=2)
    assert all(
        not np.array_equal(one.latents, other.latents)
        for one, other in zip(sessions, others, strict=True)
    )


def test_a_session_does_not_depend_on_how_many_follow(sessions):
    first = simulate("limit-cycle", parameters=[0.25], n_trials=6, n_bins=40, units=(4, 9), seed=1)[
        0
    ]
    np.testing.assert_array_equal(first.spike_times, sessions[0].spike_times)


def test_spike_times_binned_by_histogram_are_the_counts(sessions):
    for session in sessions:
        n_trials, n_bins, n_units = session.counts.shape
        for unit in range(n_units):
            times = session.spike_times[session.spike_index[unit] : session.spike_index[unit + 1]]
            assert (np.diff(times) >= 0).all()
            for trial in range(n_trials):
                edges = session.trial_start[trial] + np.arange(n_bins + 1) * session.bin_width
                np.testing.assert_array_equal(
                    np.histogram(times, edges)[0], session.counts[trial, :, unit]
                )
        assert len(session.spike_times) == session.spike_index[-1] == session.counts.sum()


def test_trials_do_not_touch(sessions):
    for session in sessions:
        stop = session.trial_start + session.counts.shape[1] * session.bin_width
        np.testing.assert_allclose(session.trial_start[1:] - stop[:-1], 0.5)


def test_mean_rates_lie_in_the_range_asked_for():
    """The mean over the ring of exp(C z) is a Bessel function, not the log-normal mean that the
    offset allows for, and a slow cycle does not visit all of it in a trial: within a factor of 1.7
    of the range."""
    for session in simulate(
        "limit-cycle", n_sessions=4, n_trials=24, n_bins=100, rate_range=(5.0, 30.0), seed=0
    ):
        rates = session.rates.mean((0, 1))
        assert rates.min() > 5 / 1.7
        assert rates.max() < 30 * 1.7
        assert session.counts.mean() / session.bin_width == pytest.approx(rates.mean(), rel=0.1)


def test_a_session_depends_on_its_seed_and_place_alone():
    options = {"n_trials": 3, "n_bins": 20, "seed": 4}
    for observations in ("spikes", "gaussian"):
        alone = simulate("hopf", parameters=[0.3, 1.0], observations=observations, **options)[1]
        other = simulate(
            "hopf", parameters=[-1.2, {"mu": 1.0}, 0.1], observations=observations, **options
        )[1]
        np.testing.assert_array_equal(as_counts(alone).counts, as_counts(other).counts)


@pytest.mark.parametrize("family", FAMILIES)
def test_counts_are_poisson_of_the_rates_of_the_latents(family):
    """Regressed by hand: log-linear rates, and counts whose Pearson statistic is 1 within four
    standard errors (its variance a cell is that of a squared standardised Poisson variable, 2 + 1 /
    mean)."""
    for session in simulate(family, n_sessions=3, n_trials=12, n_bins=80, seed=2):
        rates = np.empty(session.counts.shape)
        for unit in range(rates.shape[2]):
            z1, z2 = np.moveaxis(session.latents, -1, 0)
            rates[:, :, unit] = np.exp(
                session.bias[unit] + session.weight[unit, 0] * z1 + session.weight[unit, 1] * z2
            )
        np.testing.assert_allclose(session.rates, rates, rtol=1e-12)
        mean = rates * session.bin_width
        pearson = (session.counts - mean) ** 2 / mean
        assert abs(pearson.mean() - 1) < 4 * np.sqrt((2 + 1 / mean).mean() / pearson.size)


@pytest.mark.parametrize("family", FAMILIES)
def test_rates_are_those_of_neurons(family):
    """One bin in a thousand may pass 150 Hz where mean rates of 5 to 30 Hz were asked for."""
    rates = [session.rates for session in simulate(family, n_sessions=8, n_trials=24, n_bins=300)]
    assert np.quantile(np.concatenate([each.ravel() for each in rates]), 0.999) < 150
    assert all(each.mean((0, 1)).min() > 1 and each.mean((0, 1)).max() < 60 for each in rates)


@pytest.fixture(scope="module", params=[0.0, 1.0], ids=["no offset", "offset"])
def gaussian(request):
    options = {"n_trials": 40, "n_bins": 100, "units": (60, 60), "offset": request.param}
    return simulate("duffing", observations="gaussian", n_sessions=4, **options)


def test_gaussian_readouts_are_recovered_by_least_squares(gaussian):
    """Within five standard errors of the regression; the residual variance is 0.01."""
    for session in gaussian:
        z = session.latents.reshape(-1, 2)
        design = np.concatenate([z, np.ones((len(z), 1))], 1)
        y = session.observations.reshape(len(z), -1).astype(float)
        found = np.linalg.lstsq(design, y, rcond=None)[0]
        variance = ((y - design @ found) ** 2).sum() / (len(z) - 3) / y.shape[1]
        assert abs(variance - 0.01) < 4 * 0.01 * np.sqrt(2 / y.size)
        error = np.sqrt(0.01 * np.diag(np.linalg.inv(design.T @ design)))[:, None]
        assert (np.abs(found - np.column_stack([session.weight, session.bias]).T) < 5 * error).all()
        np.testing.assert_allclose(
            session.means, (design @ [*session.weight.T, session.bias]).reshape(session.means.shape)
        )


@pytest.mark.parametrize("offset", [0.0, 1.0])
def test_entries_of_c_have_variance_one_over_root_two_and_baselines_that_of_the_offset(offset):
    """Within four standard errors."""
    options = {"n_sessions": 4, "units": (500, 500), "n_trials": 1, "n_bins": 2}
    sessions = simulate("duffing", observations="gaussian", offset=offset, **options)
    weights, biases = (
        np.concatenate([getattr(each, name).ravel() for each in sessions])
        for name in ("weight", "bias")
    )
    assert abs(weights.var() - 2**-0.5) < 4 * 2**-0.5 * np.sqrt(2 / weights.size)
    assert abs(biases.std() - offset) <= 4 * offset / np.sqrt(2 * biases.size)


def test_both_kinds_of_observations_see_the_same_latents():
    options = {
        "parameters": [{"a": -0.5, "b": 0.2}],
        "n_trials": 4,
        "n_bins": 30,
        "units": (10, 20),
    }
    one, other = (
        simulate("duffing", observations=kind, **options)[0] for kind in ("spikes", "gaussian")
    )
    np.testing.assert_array_equal(one.latents, other.latents)


def test_counts_without_a_file_are_those_of_binning_the_spikes(sessions, make_session):
    """Every field that binning makes: counts and their type, what is observed, windows, units."""
    for session in sessions:
        given = as_counts(session)
        spikes = np.split(session.spike_times, session.spike_index[1:-1])
        stop = session.trial_start + 40 * session.bin_width
        made = make_session(spikes, {"start_time": session.trial_start, "stop_time": stop})
        binned = count_spikes(made, given.windows)
        assert given.counts.dtype == binned.counts.dtype
        for name in ("counts", "observed", "unit_rows"):
            np.testing.assert_array_equal(getattr(given, name), getattr(binned, name))
        np.testing.assert_allclose(given.windows.stop, stop)
        assert (given.session, given.bin_width) == (session.key, session.bin_width)


def test_gaussian_observations_leave_as_they_are():
    (session,) = simulate(
        "limit-cycle", n_sessions=1, observations="gaussian", n_trials=3, n_bins=20
    )
    counts = as_counts(session)
    assert counts.counts.dtype == np.float32
    np.testing.assert_array_equal(counts.counts, session.observations)
    assert 30 <= counts.n_units <= 100


@pytest.mark.parametrize(
    ("family", "options", "told"),
    [
        ("limit_cycle", {}, r"limit_cycle(?s:.*)limit-cycle, hopf, duffing(?s:.*)metadyn simulate"),
        ("hopf", {"observations": "calcium"}, r"calcium(?s:.*)spikes, gaussian"),
        ("duffing", {"parameters": [0.5]}, r"0\.5(?s:.*)'a': -1"),
        ("duffing", {"parameters": [{"a": -0.5}]}, r"'b': -1\.5"),
        ("hopf", {"parameters": [{"speed": 1.0}]}, r"speed(?s:.*)'mu': -1\.5"),
        ("duffing", {"n_sessions": 21}, r"21 sessions(?s:.*)n_sessions=20"),
    ],
)
def test_what_cannot_be_simulated_is_told_what_can(family, options, told):
    with pytest.raises(ConfigError, match=told):
        simulate(family, **options)
