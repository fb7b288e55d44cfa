"""Decoders of spikes: found and learned on the training windows alone, by roads of their own."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter1d

from metadyn.inference.baselines import WIDTHS, Components, folds_of, spike_decoders
from metadyn.inference.decoding import consecutive_folds, fit_decoder, interleaved_folds
from metadyn.records import Source, TrialCounts, Windows

LAGS = 3


def made(n_trials, seed, table="trials") -> TrialCounts:
    """Nine units of unequal gain that follow two slow signals, which are the behaviour; windows of
    40 and 31 bins of 30 ms."""
    rng = np.random.default_rng(seed)
    signal = gaussian_filter1d(rng.standard_normal((n_trials, 40, 2)), 4, axis=1) * 3
    gain = np.random.default_rng(5).normal(0, 1, (2, 9))
    spikes = rng.poisson(np.exp(signal @ gain - 0.5)).astype(np.uint8)
    n_bins = np.full(n_trials, 40)
    n_bins[1::3] = 31
    observed = np.arange(40) < n_bins[:, None]
    behavior = np.where(observed[..., None], signal, np.nan)
    row = np.arange(n_trials) if table else np.full(n_trials, -1)
    windows = Windows(np.arange(n_trials) * 1.5, n_bins, 0.03, table, row)
    return TrialCounts(
        "s",
        Source(),
        spikes * observed[..., None],
        observed,
        windows,
        np.arange(9),
        behavior,
        "signal",
    )


@pytest.fixture(scope="module")
def training():
    return made(25, 0)


@pytest.fixture(scope="module")
def decoders(training):
    return spike_decoders(training, LAGS)


def smoothed_by_hand(counts: TrialCounts, sd: float) -> np.ndarray:
    """Each window by itself over the bins that it has; NaN in padding."""
    out = np.full(counts.counts.shape, np.nan)
    for trial, bins in enumerate(counts.windows.n_bins):
        kernel = np.exp(
            -0.5 * ((np.arange(bins)[:, None] - np.arange(bins)) * counts.bin_width / sd) ** 2
        )
        kernel[
            np.abs(np.arange(bins)[:, None] - np.arange(bins)) > round(4 * sd / counts.bin_width)
        ] = 0
        out[trial, :bins] = (
            kernel / kernel.sum(1, keepdims=True) @ counts.counts[trial, :bins].astype(float)
        )
    return out


def test_all_components_decode_as_the_smoothed_spikes_themselves(training, decoders):
    """A rotation changes no ridge regression; width and penalty are those of plain cross-validation
    over all of them."""
    errors = {}
    for sd in WIDTHS:
        x, y, fold = smoothed_by_hand(training, sd), training.behavior, np.arange(25) % 5
        errors[sd] = 0.0
        for penalty in 10.0 ** np.arange(-4, 3):
            off = [one_penalty(x, y, fold, each, penalty) for each in range(5)]
            errors[sd] = min(errors[sd] or np.inf, sum(off))
    found = decoders["smoothed_spikes"]
    assert found.components.sd == min(errors, key=errors.get)
    plain = fit_decoder(smoothed_by_hand(training, found.components.sd), training.behavior, LAGS)
    unseen = made(6, 1)
    np.testing.assert_allclose(
        found(unseen), plain(smoothed_by_hand(unseen, found.components.sd)), atol=1e-4
    )


def one_penalty(x, y, fold, each, penalty) -> float:
    """Squared error in one fold of least squares with rows of penalty added, fitted to the
    others."""
    past = np.stack(
        [x[:, np.clip(np.arange(40) - lag, 0, None)] for lag in range(LAGS)], 2
    ).reshape(*x.shape[:2], -1)
    known = np.isfinite(past).all(-1) & np.isfinite(y).all(-1)
    inside, outside = known & (fold != each)[:, None], known & (fold == each)[:, None]
    center, level = past[inside].mean(0), y[inside].mean(0)
    a, b = past[inside] - center, y[inside] - level
    shrink = np.sqrt(penalty * (a**2).sum() / a.shape[1])
    weight = np.linalg.lstsq(
        np.vstack([a, shrink * np.eye(a.shape[1])]),
        np.vstack([b, np.zeros((a.shape[1], 2))]),
        rcond=None,
    )[0]
    return float(((y[outside] - level - (past[outside] - center) @ weight) ** 2).sum())


def test_components_are_those_of_a_singular_value_decomposition_of_training_bins(training):
    sd = 0.06
    flat = smoothed_by_hand(training, sd)[training.observed]
    axes = np.linalg.svd(flat - flat.mean(0), full_matrices=False)[2][:4]
    found = Components.of(training, sd, 4)
    np.testing.assert_allclose(found.mean, flat.mean(0), atol=1e-5)
    np.testing.assert_allclose(found.axes @ found.axes.T, axes.T @ axes, atol=1e-4)
    assert (np.isnan(found(training)).all(-1) == ~training.observed).all()


def test_a_decoder_knows_nothing_of_the_windows_that_it_is_read_on(decoders):
    """Another recording of the rest changes no prediction of a window."""
    unseen = made(6, 1)
    alone = {name: decode(unseen.select([2])) for name, decode in decoders.items()}
    for name, decode in decoders.items():
        np.testing.assert_array_equal(decode(unseen)[2:3], alone[name])


def test_width_and_number_of_components_are_those_of_plain_cross_validation():
    """Few windows, in which the error is least at neither end."""
    few, errors = made(11, 3), {}
    for sd in WIDTHS:
        flat = smoothed_by_hand(few, sd)
        mean = flat[few.observed].mean(0)
        axes = np.linalg.svd(flat[few.observed] - mean, full_matrices=False)[2]
        for number in (2, 4, 8):
            x = (flat - mean) @ axes[:number].T
            of_penalty = [
                sum(
                    one_penalty(x, few.behavior, np.arange(11) % 5, each, penalty)
                    for each in range(5)
                )
                for penalty in 10.0 ** np.arange(-4, 3)
            ]
            errors[sd, number] = min(of_penalty)
    found = spike_decoders(few, LAGS)["principal_components"].components
    assert (found.sd, found.axes.shape[1]) == min(errors, key=errors.get)


def test_an_entry_that_was_not_observed_counts_as_the_mean_of_its_unit(training):
    """Unit 4 was lost for the first eight windows: its components are those of the units that are
    left."""
    seen = np.broadcast_to(training.observed[..., None], training.counts.shape).copy()
    seen[:8, :, 4] = False
    lost = replace(training, counts=training.counts * seen, unit_observed=seen)
    found = Components.of(lost, 0.05)
    assert found.mean[4] == pytest.approx(
        Components.of(training.select(slice(8, None)), 0.05).mean[4], rel=1e-5
    )
    back = found(lost)[:8] @ found.axes.T
    np.testing.assert_allclose(back[training.observed[:8]][:, 4], 0, atol=1e-9)


def test_folds_of_a_continuous_recording_are_blocks_and_of_trials_interleaved():
    np.testing.assert_array_equal(folds_of(made(12, 0)), interleaved_folds(12))
    np.testing.assert_array_equal(folds_of(made(12, 0, table=None)), consecutive_folds(12))
    assert (np.diff(consecutive_folds(12)) >= 0).all()
    assert len(np.unique(consecutive_folds(12))) == 5


def test_components_vary_with_what_was_observed_and_not_with_when_it_was(training):
    """The axes are the singular vectors of deviations from each unit's mean in which an entry that
    is missing deviates by 0."""
    seen = np.broadcast_to(training.observed[..., None], training.counts.shape).copy()
    seen[:8, :, 4] = False
    lost = replace(training, counts=training.counts * seen, unit_observed=seen)
    flat = np.where(seen, smoothed_by_hand(training, 0.06), np.nan)[training.observed]
    deviations = np.nan_to_num(flat - np.nanmean(flat, 0))
    axes = np.linalg.svd(deviations, full_matrices=False)[2][:3]
    found = Components.of(lost, 0.06, 3)
    np.testing.assert_allclose(found.axes @ found.axes.T, axes.T @ axes, atol=1e-4)
