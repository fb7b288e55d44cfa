"""Entries that were not observed are missing, not silent: no part of a fit depends on what stands
there."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.ndimage import gaussian_filter1d

from metadyn.data.smoothing import smooth
from metadyn.data.storage import is_on_disk, on_disk
from metadyn.model.readin import SHARE_OFFSET, ReadIn, Visible
from metadyn.records import Source, TrialCounts, Windows
from metadyn.training.execution.batch import DeviceTrials, crop, hide
from metadyn.training.execution.host_trials import HostTrials
from metadyn.training.fit import fit
from metadyn.training.initial.activity import init_by_moments, init_by_pca
from metadyn.training.initial.condition_averages import common_trajectories, condition_totals
from metadyn.training.initial.conditions import readout_on
from metadyn.training.initial.initialise import initialise_sessions
from metadyn.training.initial.latents import least_squares, projected, rate_projection
from metadyn.training.initial.moments import mean_and_covariance, wide_enough
from metadyn.training.sessions import split_sessions

LABELS = np.array(["up", "left", "up", "down", "left", "up", "down", "left"])


def lossy(counts: TrialCounts, seed=0) -> TrialCounts:
    """The same counts, each unit lost from a bin of its own on, some bins of all, and one unit in
    some windows."""
    rng = np.random.default_rng(seed)
    shape = counts.counts.shape
    flat = np.arange(shape[0] * shape[1]).reshape(shape[:2])
    entries = counts.observed[..., None] & (
        flat[..., None] < rng.integers(flat.size // 2, 2 * flat.size, shape[2])
    )
    entries &= rng.random(shape[:2])[..., None] < 0.9
    entries[1::3, :, 0] = False
    return replace(
        counts, counts=counts.counts * entries, observed=entries.any(-1), unit_observed=entries
    )


def rest_filled(counts: TrialCounts, value=9) -> TrialCounts:
    """The same counts with something in the entries that were not observed."""
    filled = np.where(counts.observed_entries, counts.counts, value).astype(counts.counts.dtype)
    return replace(counts, counts=filled)


@pytest.fixture(scope="module")
def sessions(simulated):
    """Three sessions, of which the second lost units."""
    one, two, three = simulated(units=(5, 9))
    return [one, lossy(two), three.select(trials=slice(0, 6))]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def batch(sessions):
    resident = DeviceTrials.of(sessions, torch.device("cpu"))
    return crop(resident, torch.tensor([[0, 3], [1, 7], [5, 2]]), 24, generator())


def test_the_mask_of_entries_travels_with_the_counts(sessions, batch):
    entries = DeviceTrials.of(sessions, torch.device("cpu")).unit_observed
    for row, each in enumerate(sessions):
        mask = np.broadcast_to(each.observed_entries, each.counts.shape)
        trials, bins, units = mask.shape
        np.testing.assert_array_equal(entries[row, :trials, :bins, :units], mask)
        assert not entries[row, trials:].any()
        assert not entries[row, ..., units:].any()
    assert batch.unit_observed.shape == batch.counts.shape
    pool = HostTrials(sessions, torch.device("cpu"), 2)
    drawn = pool.batch(4, 24, generator(3))
    held = drawn.counts > 0
    assert (
        not (held & ~drawn.unit_observed).any()
        if drawn.unit_observed is not None
        else 1 not in drawn.session
    )


@pytest.mark.parametrize("dropout", [0.0, 0.25])
def test_a_missing_entry_is_neither_seen_nor_scored(batch, dropout):
    seen, targets = hide(batch, tail_bins=3, masking=0.2, dropout=dropout, generator=generator())
    weight = targets.weight.whole()
    assert not (seen.visible.entries & ~batch.unit_observed).any()
    assert not weight[~batch.unit_observed].any()
    assert weight[batch.unit_observed].any()
    assert torch.isclose(targets.weight.sum(), weight.sum())
    if not dropout:
        torch.testing.assert_close(weight > 0, batch.unit_observed & batch.observed[..., None])


def test_the_features_are_those_of_the_visible_deviations_over_their_share(batch):
    """By the formula, session after session, and whatever stands in missing entries."""
    readin = ReadIn([9, 9, 9], 7, 4)
    torch.manual_seed(0)
    readin.mean.uniform_(0.1, 0.5)
    readin.sd.uniform_(0.5, 2.0)
    n_units = batch.units.sum(-1)
    visible = Visible.of(batch.unit_observed, n_units[:, None, None])
    counts = batch.counts.float()
    found = readin(counts, batch.session, visible=visible, n_units=batch.n_units)
    for row in range(3):
        known = batch.unit_observed[row].float()
        share = (known.sum(-1) / n_units[row] + SHARE_OFFSET) / (1 + SHARE_OFFSET)
        deviation = (counts[row] - readin.mean[row]) / readin.sd[row] * known / share[..., None]
        hidden = torch.relu(deviation @ readin.weight_in[row] + readin.bias_in[row])
        torch.testing.assert_close(
            found[row], hidden @ readin.weight_out[row] + readin.bias_out[row], rtol=1e-4, atol=1e-5
        )
    other = readin(
        torch.where(batch.unit_observed, counts, 50.0),
        batch.session,
        visible=visible,
        n_units=batch.n_units,
    )
    torch.testing.assert_close(found, other)


def test_gradients_of_the_read_in_are_those_of_autograd(batch):
    readin = ReadIn([9, 9, 9], 7, 4).double()
    visible = Visible.of(batch.unit_observed, batch.units.sum(-1)[:, None, None])
    visible = Visible(visible.entries, visible.share.double())
    readin(batch.counts.double(), batch.session, visible=visible).pow(2).sum().backward()
    by_hand = readin.weight_in.grad.clone()
    x = (batch.counts.double() - readin.mean[:, None, None]) / readin.sd[:, None, None]
    x = (x * visible.entries / visible.share[..., None]).flatten(1, 2)
    hidden = torch.relu(x @ readin.weight_in + readin.bias_in[:, None])
    (expected,) = torch.autograd.grad(
        (hidden @ readin.weight_out + readin.bias_out[:, None]).pow(2).sum(), readin.weight_in
    )
    torch.testing.assert_close(by_hand, expected)


def test_moments_are_those_of_pandas_over_pairs_of_observed_entries(sessions):
    counts = rest_filled(sessions[1])
    mean, covariance = mean_and_covariance(counts.counts, counts.unit_observed)
    frame = pd.DataFrame(
        np.where(counts.unit_observed, counts.counts, np.nan).reshape(-1, counts.n_units)
    )
    np.testing.assert_allclose(mean, frame.mean())
    centred = frame - frame.mean()  # pandas takes means over each pair, we over all that a unit has
    for i in range(counts.n_units):
        for j in range(counts.n_units):
            both = (centred[i] * centred[j]).dropna()
            assert covariance[i, j] == pytest.approx(both.sum() / (len(both) - 1))


def test_smoothing_of_each_unit_is_a_normalised_sum_over_its_own_entries(sessions):
    counts = rest_filled(sessions[1])
    found = smooth(counts, 2 * counts.bin_width).counts
    for trial in range(counts.n_trials):
        for unit in range(counts.n_units):
            known = counts.unit_observed[trial, :, unit].astype(float)
            total, weight = (
                gaussian_filter1d(each, 2, mode="constant")
                for each in (counts.counts[trial, :, unit] * known, known)
            )
            np.testing.assert_allclose(
                found[trial, known > 0, unit], total[known > 0] / weight[known > 0], rtol=1e-5
            )
            assert not found[trial, known == 0, unit].any()


def test_latents_solve_each_bin_for_the_units_it_has():
    rng = np.random.default_rng(0)
    weight, mean = rng.normal(size=(7, 2)), rng.uniform(0.2, 2, 7)
    values, entries = rng.poisson(mean, (3, 11, 7)), rng.random((3, 11, 7)) < 0.5
    entries[0, 0] = True
    found = least_squares(values, mean, weight, mean, 0.1, entries)
    for trial in range(3):
        for time in range(11):
            own = entries[trial, time]
            expected = rate_projection(weight[own], mean[own]) @ (values[trial, time] - mean)[own]
            np.testing.assert_allclose(found[trial, time], expected, atol=1e-6)
    whole = projected(values, mean, rate_projection(weight, mean), np.ones((3, 11), bool))
    np.testing.assert_allclose(found[0, 0], whole[0, 0], atol=1e-6)


def waves(n_trials=30, n_bins=100, n_units=40, seed=0):
    """Two latents of variance one (trial, time, latent), slow sines, and a readout of units."""
    rng = np.random.default_rng(seed)
    phase = rng.uniform(0, 2 * np.pi, (n_trials, 1, 2))
    z = np.sqrt(2) * np.sin(2 * np.pi * np.arange(n_bins)[:, None] / np.array([50, 80]) + phase)
    return rng, z, rng.normal(0, 0.7, (n_units, 2))


def half_lost(values) -> TrialCounts:
    """Every second unit is lost half-way."""
    n_trials, n_bins, n_units = values.shape
    entries = np.ones(values.shape, bool)
    entries[n_trials // 2 :, :, ::2] = False
    windows = Windows(
        np.arange(n_trials) * 10.0, np.full(n_trials, n_bins), 0.02, None, np.full(n_trials, -1)
    )
    observed = entries.any(-1)
    return TrialCounts(
        "waves",
        Source(),
        values * entries,
        observed,
        windows,
        np.arange(n_units),
        unit_observed=entries,
    )


def slopes(z, counts: TrialCounts, start) -> list[float]:
    """How large the true latents are found, in the halves of the trials: regression of the linear
    drive on the true one."""
    half, found = counts.n_trials // 2, start.latents @ start.weight.T
    drive = z @ np.linalg.lstsq(z.reshape(-1, 2), found.reshape(-1, counts.n_units), rcond=None)[0]
    return [
        float((found[own] * drive[own]).sum() / (drive[own] ** 2).sum())
        for own in (slice(half), slice(half, None))
    ]


@pytest.mark.parametrize("likelihood", ["poisson", "gaussian"])
def test_latents_of_the_warm_start_do_not_shrink_where_half_of_the_units_are_lost(likelihood):
    rng, z, weight = waves()
    if likelihood == "poisson":
        counts = half_lost(rng.poisson(np.exp(z @ weight.T - 0.5)))
        start = init_by_moments(counts, 2, 3.0)
    else:
        counts = half_lost(
            (z @ weight.T + 1.5 + 0.2 * rng.standard_normal((30, 100, 40))).astype(np.float32)
        )
        start = init_by_pca(counts, 2, 3.0)
    before, after = slopes(z, counts, start)
    assert after / before == pytest.approx(1, abs=0.06)
    start = start.latents.reshape(2, -1, 2)
    assert start[1].var(0) == pytest.approx(start[0].var(0), rel=0.15)


def test_rates_of_units_are_those_of_the_time_in_which_they_were_observed():
    rng, z, weight = waves(n_units=30)
    rate = np.exp(z @ weight.T - 0.5)
    counts = half_lost(rng.poisson(rate))
    start = init_by_moments(counts, 2, 3.0)
    np.testing.assert_allclose(start.mean, rate.mean((0, 1)), rtol=0.15)


def test_condition_totals_and_exposures_are_those_of_a_plain_loop_over_entries(sessions):
    counts = replace(sessions[1], condition=LABELS)
    total, trials = condition_totals(counts, ["left", "up"], 20)
    for row, label in enumerate(["left", "up"]):
        own = label == LABELS
        np.testing.assert_array_equal(trials[row], counts.unit_observed[own, :20].sum(0))
        np.testing.assert_array_equal(total[row], counts.counts[own, :20].astype(float).sum(0))


def test_frame_and_readout_do_not_take_a_lost_unit_for_a_silent_one():
    """The readout of lost units in the frame of conditions is that of the same units where nothing
    is lost."""
    rng, z, weight = waves(n_trials=8, n_bins=60)
    z = np.tile(z, (6, 1, 1))  # eight conditions, six trials each
    labels = np.tile([f"c{n}" for n in range(8)], 6)
    counts = replace(half_lost(rng.poisson(np.exp(z @ weight.T - 0.5))), condition=labels)
    frame = common_trajectories([counts], sorted(set(labels)), 60, 2, 3.0)
    design = np.concatenate([frame.reshape(-1, 2), np.ones((480, 1))], 1)
    for latent in z[:8].reshape(-1, 2).T:
        fitted = design @ np.linalg.lstsq(design, latent, rcond=None)[0]
        assert np.corrcoef(fitted, latent)[0, 1] > 0.97
    readout, bias = readout_on(frame, sorted(set(labels)), counts, np.ones(2))
    drive = frame.reshape(-1, 2) @ readout.T + bias
    true = z[:8].reshape(-1, 2) @ weight.T - 0.5
    ratio = np.exp(drive - true).mean(0)
    assert ratio[::2].mean() == pytest.approx(
        ratio[1::2].mean(), rel=0.1
    )  # silent in half of the trials it would be .5


@pytest.mark.parametrize("kind", ["moments", "gaussian", "pool"])
def test_a_fit_does_not_depend_on_what_stands_in_missing_entries(sessions, small, short, kind):
    given = sessions
    if kind == "gaussian":
        given = [replace(each, counts=each.counts.astype(np.float32)) for each in given]
    config = small(likelihood="gaussian" if kind == "gaussian" else "poisson")
    training = short(sessions_per_step=2) if kind == "pool" else short()
    one, two = (
        fit([given[0], each, given[2]], config, training)
        for each in (given[1], rest_filled(given[1]))
    )
    for name, value in one.module.state_dict().items():
        assert torch.isfinite(value).all()
        torch.testing.assert_close(value, two.module.state_dict()[name], msg=name)


@pytest.fixture(scope="module")
def lost(sessions):
    """The second session, its third unit observed in no window that trains."""
    counts = sessions[1]
    train = split_sessions([counts], 0.25, 0).train
    entries = counts.unit_observed.copy()
    entries[np.isin(counts.windows.start, train[0].windows.start), :, 2] = False
    return replace(
        counts, unit_observed=entries, observed=entries.any(-1), counts=counts.counts * entries
    )


def test_a_unit_observed_in_no_window_that_trains_is_left_out_with_a_warning(
    sessions, lost, small, short
):
    with pytest.warns(
        UserWarning, match="1 of [0-9]+ units were observed in none of the windows that train"
    ):
        trained = fit([sessions[0], lost], small(), short(validation_fraction=0.25))
    assert trained.sessions[1].unit_rows == tuple(np.delete(lost.unit_rows, 2).tolist())
    assert trained.module.likelihood.weight.shape[1] >= lost.n_units - 1


def test_a_run_that_left_a_unit_out_goes_on_with_the_same_recordings(
    sessions, lost, small, short, tmp_path
):
    given = [sessions[0], lost], small(), short(validation_fraction=0.25)
    with pytest.warns(UserWarning, match="left out"):
        first = fit(*given, folder=tmp_path / "run")
    with pytest.warns(UserWarning, match="left out"):
        again = fit(*given, folder=tmp_path / "run", resume=True)
    for name, value in first.module.state_dict().items():
        torch.testing.assert_close(again.module.state_dict()[name], value, msg=name)


def test_masks_of_entries_stay_on_disk_beside_their_counts(sessions, tmp_path, small, short):
    kept = sessions[1].stored(lambda values: on_disk(values, tmp_path))
    parts = split_sessions([kept], 0.25, 0, lambda values: on_disk(values, tmp_path))
    every = (kept, *parts.train, *parts.validation)
    assert all(is_on_disk(each.unit_observed) and is_on_disk(each.counts) for each in every)
    in_memory = split_sessions([sessions[1]], 0.25, 0)
    one, other = (
        initialise_sessions(each, small(), short())[0] for each in (parts.train, in_memory.train)
    )
    np.testing.assert_array_equal(one.latents, other.latents)


@pytest.mark.parametrize("dropout", [0.0, 0.25])
def test_the_visible_entries_of_a_bin_stand_for_the_units_that_its_session_has(batch, dropout):
    """The share of the units that were observed, and of these the share that is not hidden; padding
    is no unit."""
    assert min(batch.n_units) < max(batch.n_units)
    seen, _ = hide(batch, tail_bins=3, masking=0.2, dropout=dropout, generator=generator())
    for row, trial, time in np.ndindex(*batch.observed.shape):
        known = int(batch.unit_observed[row, trial, time].sum()) / batch.n_units[row]
        expected = (known + SHARE_OFFSET) / (1 + SHARE_OFFSET) * (1 - dropout)
        assert float(seen.visible.share[row, trial, time]) == pytest.approx(expected, rel=1e-5)


def test_the_smoothing_of_a_start_is_wide_enough_for_the_entries_that_were_observed(sessions):
    """A unit of the mean rate over what was observed fires a quarter of a spike within one SD."""
    for counts in sessions:
        known = np.where(counts.observed_entries, counts.counts, np.nan)
        assert wide_enough(counts, 0.01) == pytest.approx(0.25 / np.nanmean(known))
