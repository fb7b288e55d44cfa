"""The noise of forecasts is found again where it is known, and is what forecasts and the numpy
reader use."""

from dataclasses import replace

import numpy as np
import torch
from scipy.stats import norm

from metadyn.config import ModelConfig
from metadyn.inference.forecast import ContextSamples, forecast
from metadyn.model.build import build_model
from metadyn.model.gaussian import Gaussian
from metadyn.model.ops.per_session import declarations
from metadyn.model.trained import SharedLatents, TrainedModel
from metadyn.records import SessionEntry, Source, TrialCounts, Windows
from metadyn.training import calibrate
from metadyn.training.calibrate import calibrated, lowest, surprise

N_UNITS, N_BINS, CONTEXT, NOISE_SD, TRUE_SD = 12, 45, 15, 0.1, 0.15


def model(log_q: float, likelihood: str = "gaussian", n_units: int = N_UNITS) -> TrainedModel:
    """A model without embedding that turns and shrinks the state slowly."""
    config = ModelConfig(
        latent_dim=2, conditioning="shared", likelihood=likelihood, hidden=(16, 16), residual=True
    )
    module = build_model(config, [n_units], seed=0)
    with torch.no_grad():
        for each in module.dynamics.flow.output.parameters():
            each.mul_(0.05)
        module.likelihood.weight.mul_(0.5)
        module.log_q.fill_(log_q)
        if likelihood == "gaussian":
            module.likelihood.log_var.fill_(2 * np.log(NOISE_SD))
    ones = np.ones(2, np.float32)
    shared = SharedLatents(
        ones, ones, (), np.zeros((0, 9, 2), np.float32), np.zeros((1, 2), np.float32), np.eye(2)
    )
    return TrainedModel(
        module,
        config,
        0.02,
        (SessionEntry("made", n_units, tuple(range(n_units)), Source()),),
        shared,
    )


def recorded(
    trained: TrainedModel, sd: float, n_trials: int, seed: int = 0
) -> tuple[TrialCounts, np.ndarray]:
    """Trials of these dynamics with process noise of that SD, and their latents (trial, time,
    latent)."""
    rng = np.random.default_rng(seed)
    transition = trained.module.transition(torch.zeros(1, 1, 1), torch.tensor([0]))
    z, path = torch.as_tensor(rng.normal(size=(n_trials, 2)), dtype=torch.float32)[None], []
    with torch.no_grad():
        for _ in range(N_BINS):
            path.append(z[0].numpy())
            z = transition.mean(z[:, :, None])[:, :, 0] + torch.as_tensor(
                sd * rng.normal(size=z.shape), dtype=torch.float32
            )
    latents = np.stack(path, 1)
    readout = trained.module.likelihood
    weight, bias = readout.weight[0].numpy(force=True), readout.bias[0].numpy(force=True)
    values = latents @ weight.T + bias
    noisy = (
        rng.poisson(np.exp(values))
        if trained.config.likelihood == "poisson"
        else values + NOISE_SD * rng.normal(size=values.shape)
    )
    windows = Windows(
        np.arange(n_trials) * 2.0, np.full(n_trials, N_BINS), 0.02, "trials", np.arange(n_trials)
    )
    observed = np.ones(values.shape[:2], bool)
    units = np.arange(values.shape[-1])
    return TrialCounts(
        "made", Source(), noisy.astype(np.float32), observed, windows, units
    ), latents


def knowing(monkeypatch, latents: np.ndarray) -> None:
    """Draws from the true state at the end of the context in place of those of an untrained
    encoder."""

    def known(trained, counts, context, samples, *, seed, conditioning=None) -> ContextSamples:
        chosen = latents[counts.windows.trial_row, context - 1]
        state = torch.as_tensor(chosen, dtype=torch.float32).expand(samples, -1, -1)
        return ContextSamples(torch.zeros(samples, counts.n_trials, 1), state, context)

    monkeypatch.setattr(calibrate, "sample_context", known)


def test_the_noise_that_made_the_trials_is_found_from_either_side(monkeypatch):
    for likelihood in ("gaussian", "poisson"):
        for wrong in (0.25, 3.0):
            trained = model(2 * np.log(TRUE_SD * wrong), likelihood)
            counts, latents = recorded(trained, TRUE_SD, 200)
            knowing(monkeypatch, latents)
            found = calibrated(trained, [counts]).sessions[0].noise_scale
            assert abs(np.log2(found * wrong)) < 0.35, (likelihood, wrong, found)


def test_surprise_equals_a_plain_mixture_of_densities_and_ignores_what_is_not_observed(monkeypatch):
    trained, factor, n_samples = model(2 * np.log(0.1)), 2.0, 6
    counts, latents = recorded(trained, 0.1, 4)
    knowing(monkeypatch, latents)
    drawn = calibrate.sample_context(trained, counts, CONTEXT, n_samples, seed=0)
    counts.observed[1, 20:] = False
    counts = replace(counts, counts=np.where(counts.observed[..., None], counts.counts, 1e6))
    found = surprise(trained, counts, drawn, CONTEXT, 10, factor)
    paths = calibrate.noisy_paths(trained, 0, drawn, 10, factor, seed=0).numpy()
    weight, bias = (
        part[0].numpy(force=True)
        for part in (trained.module.likelihood.weight, trained.module.likelihood.bias)
    )
    scores = []
    for trial, step, unit in np.ndindex(4, 10, N_UNITS):
        if counts.observed[trial, CONTEXT + step]:
            means = paths[:, trial, step] @ weight[unit] + bias[unit]
            scores.append(
                -np.log(
                    norm.pdf(counts.counts[trial, CONTEXT + step, unit], means, NOISE_SD).mean()
                )
            )
    assert np.isclose(found, np.mean(scores), rtol=1e-4)


def test_sampled_forecasts_spread_by_the_factor_and_the_mean_path_stays():
    trained = model(2 * np.log(0.05))
    with torch.no_grad():  # a state that is known: only process noise spreads
        trained.module.latents = lambda features, embedding, length: Gaussian(
            torch.zeros(*length.shape, N_BINS, 2), torch.full((*length.shape, N_BINS, 2), -30.0)
        )
    counts, _ = recorded(trained, 0.05, 3)
    told = [
        replace(trained, sessions=(replace(trained.sessions[0], noise_scale=factor),))
        for factor in (1.0, 2.0)
    ]
    one, two = (forecast(each, counts, context=CONTEXT, steps=1, samples=50) for each in told)
    assert np.array_equal(one["latent_mean"], two["latent_mean"])
    assert np.allclose(two["latent_sd"], 2 * one["latent_sd"], rtol=1e-4)


def test_windows_that_end_with_their_context_leave_the_noise_as_it_is():
    trained = model(0.0)
    counts, _ = recorded(trained, 1.0, 3)
    short = counts.select([0])
    short = replace(
        short,
        counts=short.counts[:, :2],
        observed=short.observed[:, :2],
        windows=replace(short.windows, n_bins=np.array([2])),
    )
    assert calibrated(trained, [short]).sessions[0].noise_scale == 1.0


def test_of_many_units_some_give_the_factor_that_all_give(monkeypatch):
    """Sessions of 8 windows: half of the units change the factor by less than other windows of the
    same session would."""
    trained, logs = model(2 * np.log(TRUE_SD), "poisson", 60), []
    for seed in range(6):
        counts, latents = recorded(trained, TRUE_SD, 8, seed)
        knowing(monkeypatch, latents)
        found = []
        for entries in (calibrate.SCORED_ENTRIES, 8 * calibrate.FORECAST_STEPS * 30):
            monkeypatch.setattr(calibrate, "SCORED_ENTRIES", entries)
            found.append(np.log2(calibrated(trained, [counts]).sessions[0].noise_scale))
        monkeypatch.undo()
        logs.append(found)
    whole, some = np.array(logs).T
    assert np.sqrt(((some - whole) ** 2).mean()) < whole.std() / 2


def test_the_work_on_a_session_is_bounded_however_many_units_it_has(monkeypatch):
    """As many densities of 700 units as ENTRIES allow, a piece at a time; of 12 units all, and of
    padding none."""
    monkeypatch.setattr(calibrate, "SCORED_ENTRIES", 4096)
    monkeypatch.setattr(calibrate, "DENSITIES_AT_ONCE", 2**16)
    real, sizes = calibrate.log_mean_exp, []
    monkeypatch.setattr(
        calibrate, "log_mean_exp", lambda x: (sizes.append(tuple(x.shape)), real(x))[1]
    )
    for n_units, scored in ((12, 12), (700, 17)):
        trained, factor = model(0.0, "poisson", n_units), 1.0
        counts, latents = recorded(trained, 0.3, 8)
        knowing(monkeypatch, latents)
        drawn = calibrate.sample_context(
            trained, counts, CONTEXT, calibrate.FORECAST_SAMPLES, seed=0
        )
        sizes.clear()
        surprise(trained, counts, drawn, CONTEXT, 30, factor)
        assert sum(points for _, points, _ in sizes) == 8 * 30
        assert {(samples, units) for samples, _, units in sizes} == {
            (calibrate.FORECAST_SAMPLES, scored)
        }
        assert max(map(np.prod, sizes)) <= calibrate.DENSITIES_AT_ONCE


def test_a_session_beside_a_larger_one_is_calibrated_as_alone(monkeypatch):
    alone = model(2 * np.log(TRUE_SD))
    counts, latents = recorded(alone, TRUE_SD * 2, 9)
    knowing(monkeypatch, latents)
    both = build_model(alone.config, [31, N_UNITS], seed=5)
    mine, theirs, declared = alone.module.state_dict(), both.state_dict(), declarations(both)
    with torch.no_grad():
        for name, value in theirs.items():
            if declared[name].per_session:
                value[(1, *map(slice, mine[name].shape[1:]))] = mine[name][0]
            else:
                value.copy_(mine[name])
    entries = (SessionEntry("large", 31, tuple(range(31)), Source()), alone.sessions[0])
    found = calibrated(replace(alone, module=both, sessions=entries), [counts])
    expected = calibrated(alone, [counts]).sessions[0].noise_scale
    assert [entry.noise_scale for entry in found.sessions] == [1.0, expected]
    assert expected > 1.5


def test_entries_that_were_not_observed_have_no_weight(monkeypatch):
    """Units lost for part of the trials, and one for all of them: whatever stands there, the factor
    is that of the others."""
    trained = model(2 * np.log(TRUE_SD), "poisson")
    counts, latents = recorded(trained, TRUE_SD * 1.7, 11)
    knowing(monkeypatch, latents)
    seen = np.ones(counts.counts.shape, bool)
    seen[3:, :, 4], seen[..., 7], seen[2, 20:] = False, False, False
    partly = replace(counts, unit_observed=seen, observed=seen.any(2))
    found = [
        calibrated(trained, [replace(partly, counts=np.where(seen, counts.counts, value))])
        .sessions[0]
        .noise_scale
        for value in (0.0, 1000.0)
    ]
    assert found[0] == found[1] != 1.0


def test_a_session_of_which_nothing_is_observed_ahead_keeps_its_noise(monkeypatch):
    trained = model(0.0)
    trained = replace(trained, sessions=(replace(trained.sessions[0], noise_scale=0.7),))
    counts, latents = recorded(trained, 1.0, 5)
    knowing(monkeypatch, latents)
    counts.observed[:, CONTEXT:] = False
    assert calibrated(trained, [counts]).sessions[0].noise_scale == 0.7


def test_intervals_hold_what_they_say_on_windows_that_were_not_calibrated_on(monkeypatch):
    """Nominal 90 % of observations, with process noise that the model takes for three times, or a
    third of, what it is."""
    for likelihood, wrong in (("gaussian", 3.0), ("poisson", 0.33)):
        trained = model(2 * np.log(TRUE_SD * wrong), likelihood)
        counts, latents = recorded(trained, TRUE_SD, 116)
        knowing(monkeypatch, latents)
        scale = calibrated(trained, [counts.select(np.arange(16))]).sessions[0].noise_scale
        truth = counts.counts[16:]
        if (
            likelihood == "poisson"
        ):  # an interval of counts, which are few, holds more than it says: that of C z + D
            weight, bias = (each[0].numpy(force=True) for each in readout_of(trained))
            truth = latents[16:] @ weight.T + bias
        samples = sampled_values(trained, counts.select(np.arange(16, 116)), scale, seed=3)
        low, high = np.quantile(samples, [0.05, 0.95], axis=0)
        window = truth[:, CONTEXT : CONTEXT + 30]
        covered = ((low <= window) & (window <= high)).mean()
        assert 0.87 < covered < 0.93, (likelihood, wrong, scale, covered)


def readout_of(trained: TrainedModel):
    return trained.module.likelihood.weight, trained.module.likelihood.bias


def sampled_values(
    trained: TrainedModel, counts: TrialCounts, scale: float, seed: int
) -> np.ndarray:
    """C z + D, with a Gaussian likelihood and its noise, of 200 paths: (sample, trial, time,
    unit)."""
    drawn = calibrate.sample_context(trained, counts, CONTEXT, 200, seed=seed)
    paths = calibrate.noisy_paths(trained, 0, drawn, 30, scale, seed=seed).numpy()
    weight, bias = (each[0].numpy(force=True) for each in readout_of(trained))
    values = paths @ weight.T + bias
    noise = NOISE_SD if trained.config.likelihood == "gaussian" else 0.0
    return values + noise * np.random.default_rng(seed).standard_normal(values.shape, np.float32)


def test_progress_is_reported_session_by_session(monkeypatch):
    trained, said = model(0.0), []
    counts, latents = recorded(trained, 1.0, 4)
    knowing(monkeypatch, latents)
    calibrated(trained, [counts], said.append)
    assert [(each.stage, each.step, each.steps) for each in said] == [
        ("calibrate", 0, 1),
        ("calibrate", 1, 1),
    ]


def test_the_lowest_point_is_found_from_few_values():
    for true in (-3.2, -1.3, 0.1, 1.4):
        tried = []

        def bowl(x: float, true: float = true, tried: list = tried) -> float:
            tried.append(x)
            return (x - true) ** 2

        assert np.isclose(lowest(bowl), true)
        assert len(tried) == len(set(tried)) <= 8
    assert [lowest(lambda x: x), lowest(lambda x: -x), lowest(lambda x: 1.0)] == [-4, 2, 0]


def test_what_cannot_be_judged_is_not_chosen():
    assert np.isclose(lowest(lambda x: (x + 1.2) ** 2 if x < 0.7 else np.nan), -1.2)
    assert lowest(lambda x: np.nan if x < 0 else x) == 0
    assert lowest(lambda x: np.nan) == 0
