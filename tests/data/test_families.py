"""Families of systems: fixed points, oscillations and paths that analysis and another integrator
find as well."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from metadyn.data import families
from metadyn.data.families import FAMILIES, NOISE_SD, TIME_STEP, integrate, noise_free
from metadyn.data.synthetic import simulate

MEMBERS = [
    ("limit-cycle", {"speed": 2.0}),
    ("hopf", {"mu": 0.8}),
    ("duffing", {"a": -0.467, "b": -0.75}),
]


def jacobian(family, parameters, point, width=1e-5):
    """By central differences, (2, 2)."""
    columns = [
        (
            FAMILIES[family].flow(point + step, parameters)
            - FAMILIES[family].flow(point - step, parameters)
        )
        / (2 * width)
        for step in width * np.eye(2)
    ]
    return np.stack(columns, -1)


@pytest.mark.parametrize("speed", [0.25, 2.0, 5.0])
def test_noise_free_limit_cycles_turn_at_their_speed(speed):
    """An Euler step of a rotation by ω dt turns by arctan(ω dt): 1.3 % less at the fastest."""
    start = FAMILIES["limit-cycle"].start(np.random.default_rng(0), 5)
    path = noise_free("limit-cycle", {"speed": speed}, start, 400)[:, 200:]
    angle = np.unwrap(np.arctan2(path[..., 1], path[..., 0]), axis=1)
    assert np.diff(angle, axis=1).mean() / TIME_STEP == pytest.approx(speed, rel=0.02)
    radius = np.linalg.norm(path, axis=-1)
    assert radius == pytest.approx(1.0, abs=0.3)
    assert radius.std() < 1e-6


@pytest.mark.parametrize("mu", [-1.5, -0.675, -0.2])
def test_below_the_bifurcation_hopf_decays(mu):
    """Envelopes decay as exp(mu t / 2)."""
    starts = np.random.default_rng(0).standard_normal((20, 2))
    path = noise_free("hopf", {"mu": mu}, starts, 1000)
    assert np.linalg.norm(path[:, -1], axis=-1).max() < 0.05
    eigenvalues = np.linalg.eigvals(jacobian("hopf", {"mu": mu}, np.zeros(2)))
    np.testing.assert_allclose(eigenvalues.real, mu / 2, atol=1e-6)


@pytest.mark.parametrize("mu", [0.05, 0.2])
def test_above_the_bifurcation_hopf_has_a_cycle_of_twice_root_mu(mu, monkeypatch):
    """To first order in mu, by averaging; Euler steps add an energy of the order of the step, so
    these are short. It is met from inside and from outside."""
    monkeypatch.setattr(families, "TIME_STEP", 0.001)
    late = noise_free(
        "hopf", {"mu": mu}, np.sqrt(mu) * np.array([[1.0, 0.0], [4.0, 0.0]]), 150_000
    )[:, -8000:]
    assert np.abs(late).max(1)[:, 0] == pytest.approx(2 * np.sqrt(mu), rel=0.02)


@pytest.mark.parametrize("a", [-1.0, -0.2])
@pytest.mark.parametrize("b", [-1.5, -0.75])
def test_duffing_with_two_wells_rests_in_either_and_not_between(a, b):
    parameters = {"a": a, "b": b}
    for well in (np.sqrt(-b / 0.1), -np.sqrt(-b / 0.1)):
        point = np.array([well, 0.0])
        np.testing.assert_allclose(FAMILIES["duffing"].flow(point, parameters), 0, atol=1e-12)
        assert (np.linalg.eigvals(jacobian("duffing", parameters, point)).real < 0).all()
    assert np.linalg.eigvals(jacobian("duffing", parameters, np.zeros(2))).real.max() > 0


@pytest.mark.parametrize(("family", "parameters"), MEMBERS)
def test_a_fine_noise_free_path_is_that_of_another_integrator(family, parameters, monkeypatch):
    """Euler steps of h and h / 2, extrapolated to none: the error left is of second order in h =
    0.005, below 1e-4."""
    start = np.array([[0.7, -0.9], [-1.1, 0.3]])
    paths = {}
    for n in (8, 16):
        monkeypatch.setattr(families, "TIME_STEP", 0.04 / n)
        paths[n] = noise_free(family, parameters, start, 75 * n)[:, n - 1 :: n]
    extrapolated = 2 * paths[16] - paths[8]
    for path, x in zip(extrapolated, start, strict=True):
        reference = solve_ivp(
            lambda _, z: FAMILIES[family].flow(z, parameters),
            (0, 3),
            x,
            t_eval=0.04 * np.arange(1, 76),
            rtol=1e-10,
            atol=1e-12,
        )
        np.testing.assert_allclose(path, reference.y.T, rtol=0, atol=1e-4)


@pytest.mark.parametrize(("family", "parameters"), MEMBERS)
def test_the_noise_of_a_step_has_its_standard_deviation(family, parameters):
    """Increments less the drift, over the step: SD 0.5 within four standard errors."""
    path = integrate(FAMILIES[family], parameters, 200, 50, np.random.default_rng(0))
    noise = np.diff(path, axis=1) / TIME_STEP - FAMILIES[family].flow(path[:, :-1], parameters)
    assert abs(noise.std() - NOISE_SD) < 4 * NOISE_SD / np.sqrt(2 * noise.size)
    assert abs(noise.mean()) < 4 * NOISE_SD / np.sqrt(noise.size)


@pytest.mark.parametrize(("family", "parameters"), MEMBERS)
def test_the_noise_free_path_is_the_simulation_without_its_noise(family, parameters, monkeypatch):
    """From every bin of several trials at once, the next steps."""
    monkeypatch.setattr(families, "NOISE_SD", 0.0)
    path = integrate(FAMILIES[family], parameters, 3, 12, np.random.default_rng(0))
    ahead = noise_free(family, parameters, path[:, :8], 4)
    assert ahead.shape == (3, 8, 4, 2)
    for t in range(8):
        np.testing.assert_array_equal(ahead[:, t], path[:, t + 1 : t + 5])


@pytest.mark.parametrize("family", ["hopf", "duffing"])
def test_the_latent_sd_of_a_family_is_that_of_its_widest_member(family):
    """The ring's is that of the unit circle, on which Euler steps do not stay."""
    spread = [
        np.sqrt(np.mean(each.latents**2))
        for each in simulate(family, n_trials=96, n_bins=300, units=(1, 1))
    ]
    assert max(spread) == pytest.approx(FAMILIES[family].latent_sd, rel=0.15)


def test_starts_are_those_of_the_protocol():
    """Moments within four standard errors; a duffing start is drawn in where Euler steps are
    unstable, which takes 1.1 % of the starts and 0.6 % of their second moment."""
    rng = np.random.default_rng(0)
    radius = np.linalg.norm(FAMILIES["limit-cycle"].start(rng, 10_000), axis=1)
    assert (radius.min() > 0.2, radius.max() < 1.5) == (True, True)
    assert abs(radius.mean() - 0.85) < 4 * 1.3 / np.sqrt(12 * 10_000)
    assert abs(FAMILIES["hopf"].start(rng, 10_000).var() - 1) < 4 * np.sqrt(2 / 20_000)
    starts = FAMILIES["duffing"].start(rng, 10_000)
    radius = np.linalg.norm(starts, axis=1)
    assert abs((starts**2).mean() - 4 * (1 - np.exp(-4.5))) < 4 * 4 * np.sqrt(2 / 20_000)
    assert abs((radius > 5.999).mean() - np.exp(-4.5)) < 4 * np.sqrt(np.exp(-4.5) / 10_000)


def test_no_duffing_path_leaves_for_infinity():
    """All starts as far out as there are, least damped, stiffest: 1000 bins with noise end
    within."""
    rim = families.FARTHEST * np.stack([np.cos(np.arange(2000)), np.sin(np.arange(2000))], -1)
    family = replace(FAMILIES["duffing"], start=lambda rng, n: rim)
    path = integrate(family, {"a": -0.2, "b": 1.5}, len(rim), 1000, np.random.default_rng(0))
    assert np.abs(path[:, -1]).max() < 6


def test_without_parameters_a_range_is_covered_evenly():
    for family, name, low, high in (("limit-cycle", "speed", 0.25, 5.0), ("hopf", "mu", -1.5, 1.5)):
        values = [each[name] for each in FAMILIES[family].cover(5)]
        np.testing.assert_allclose(np.diff(values), (high - low) / 4)
        assert (values[0], values[-1]) == (low, high)


@pytest.mark.parametrize("n", [1, 4, 7, 19, 20])
def test_some_of_the_duffing_grid_are_different_members_of_it(n):
    whole = [tuple(each.values()) for each in FAMILIES["duffing"].cover(None)]
    assert len(set(whole)) == 20
    some = [tuple(each.values()) for each in FAMILIES["duffing"].cover(n)]
    assert len(set(some)) == n
    places = np.array([whole.index(each) for each in some])
    assert n == 1 or np.ptp(np.diff(places)) <= 1
