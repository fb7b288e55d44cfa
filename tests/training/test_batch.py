"""Random batches: crops are stretches of the right trial, trials are not drawn twice, hidden
entries stay hidden."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from metadyn.records import Source, TrialCounts, Windows
from metadyn.training.execution.batch import DeviceTrials, crop, draw_trials, hide, uniform_below


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def labelled(session, n_bins, n_units):
    """Counts that tell session, trial, time and unit apart; every third bin unobserved."""
    n_trials, longest = len(n_bins), max(n_bins)
    place = (
        np.arange(n_trials)[:, None, None] * 1000
        + np.arange(longest)[:, None] * 10
        + np.arange(n_units)
    )
    inside = np.arange(longest) < np.array(n_bins)[:, None]
    windows = Windows(
        np.arange(n_trials) * 100.0, np.array(n_bins), 0.02, None, np.full(n_trials, -1)
    )
    observed = inside & (np.arange(longest) % 3 > 0)
    counts = (place + 100_000 * session + 1) * inside[..., None]
    return TrialCounts(f"s{session}", Source(), counts, observed, windows, np.arange(n_units))


@pytest.fixture
def sessions():
    return [labelled(0, [12, 7, 9, 12], 3), labelled(1, [5, 10], 4)]


def test_trials_on_the_device_are_those_given(sessions):
    latents = [np.random.default_rng(0).random((*each.observed.shape, 2)) for each in sessions]
    resident = DeviceTrials.of(sessions, torch.device("cpu"), latents)
    for row, each in enumerate(sessions):
        trials, bins, units = each.counts.shape
        np.testing.assert_array_equal(resident.counts[row, :trials, :bins, :units], each.counts)
        np.testing.assert_array_equal(resident.observed[row, :trials, :bins], each.observed)
        np.testing.assert_allclose(resident.latents[row, :trials, :bins], latents[row], rtol=1e-6)
        assert not resident.observed[row, trials:].any()
        assert not resident.observed[row, :, bins:].any()
        assert resident.units[row].tolist() == [unit < units for unit in range(4)]
    assert resident.n_trials.tolist() == [4, 2]


def test_small_counts_stay_bytes_on_the_device(sessions):
    small = [replace(each, counts=(each.counts % 7).astype(np.uint8)) for each in sessions]
    assert DeviceTrials.of(small, torch.device("cpu")).counts.dtype == torch.uint8


@pytest.mark.parametrize("longest", [4, 9, 30])
def test_crops_are_stretches_of_the_trial_drawn(sessions, longest):
    resident = DeviceTrials.of(sessions, torch.device("cpu"))
    trial = torch.tensor([[0, 1, 3], [1, 0, 1]])
    starts = set()
    for seed in range(20):
        batch = crop(resident, trial, longest, generator(seed))
        for row, each in enumerate(sessions):
            for place, number in enumerate(trial[row].tolist()):
                whole = each.counts[number]
                length = int(batch.length[row, place])
                assert length == min(longest, each.windows.n_bins[number])
                start = int(batch.counts[row, place, 0, 0] - whole[0, 0]) // 10
                starts.add((row, place, start))
                stretch = batch.counts[row, place, :length, : each.n_units]
                np.testing.assert_array_equal(stretch, whole[start : start + length])
                seen = batch.observed[row, place]
                np.testing.assert_array_equal(
                    seen[:length], each.observed[number, start : start + length]
                )
                assert not seen[length:].any()
    if longest == 4:
        assert {start for row, place, start in starts if (row, place) == (0, 0)} == set(range(9))


def test_no_trial_is_drawn_twice_while_there_are_enough(sessions):
    resident = DeviceTrials.of(sessions, torch.device("cpu"))
    seen = set()
    for seed in range(20):
        four, two = draw_trials(resident.n_trials, 4, 4, generator(seed)).tolist()
        assert sorted(four) == [0, 1, 2, 3]
        assert sorted(two[:2]) == [0, 1]
        assert two[2:] == two[:2]
        seen.add(tuple(four))
    assert len(seen) > 5


def test_every_trial_is_drawn_as_often_as_the_others_of_its_session_and_none_that_is_not_there():
    """2 of 5, 2 of 3, and 2 of 2, of which no other number may come."""
    n_trials, drawn = torch.tensor([5, 3, 2]), torch.zeros(3, 5)
    for seed in range(600):
        for row, trials in enumerate(draw_trials(n_trials, 5, 2, generator(seed))):
            drawn[row, trials] += 1
    expected = torch.tensor([[2 / 5] * 5, [2 / 3] * 3 + [0] * 2, [1] * 2 + [0] * 3])
    assert (drawn / 600 - expected).abs().max() < 5 * (0.25 / 600) ** 0.5
    assert torch.equal(drawn > 0, expected > 0)


def test_whole_numbers_below_a_bound_are_uniform_and_never_the_bound():
    numbers = uniform_below(torch.full((70_000,), 7), generator())
    share = torch.bincount(numbers, minlength=7) / 70_000
    assert numbers.max() == 6
    assert (share - 1 / 7).abs().max() < 0.006  # 4.5 standard errors


@pytest.fixture
def batch(sessions):
    resident = DeviceTrials.of(sessions, torch.device("cpu"))
    return crop(resident, torch.tensor([[0, 1, 3], [1, 0, 1]]), 12, generator())


OPTIONS = {"tail_bins": 3, "masking": 0.3, "dropout": 0.25}


def test_hidden_entries_are_never_visible_and_alone_are_scored(batch):
    seen, targets = hide(batch, **OPTIONS, generator=generator())
    ahead = (torch.arange(12) >= seen.length[..., None]) & (
        torch.arange(12) < batch.length[..., None]
    )
    weight = targets.weight.whole()
    within = ~ahead[..., None] & (weight > 0)
    assert within.any()
    assert not seen.visible.entries[within].any()
    torch.testing.assert_close(weight[within].unique(), torch.tensor([4.0]))
    assert seen.visible.share == 0.75


def test_the_tail_is_never_seen_and_always_forecast(batch):
    seen, targets = hide(batch, **OPTIONS, generator=generator())
    for row in range(2):
        for trial in range(3):
            length, context = int(batch.length[row, trial]), int(seen.length[row, trial])
            assert context == length - 3
            assert not seen.seen[row, trial, context:].any()
            assert targets.forecast[row, trial, context:length].all()
            assert not targets.forecast[row, trial, length:].any()


def test_the_longest_tail_leaves_a_third_of_each_trial(batch):
    seen, _ = hide(batch, **OPTIONS | {"tail_bins": 1000}, generator=generator())
    assert batch.length.tolist() == [[12, 7, 12], [10, 5, 10]]
    assert seen.length.tolist() == [[4, 2, 4], [3, 1, 3]]


def test_the_first_bin_is_never_masked(batch):
    for seed in range(20):
        assert not hide(batch, **OPTIONS, generator=generator(seed))[1].forecast[:, :, 0].any()


def test_the_expected_weight_of_an_observed_entry_is_one(batch):
    draws = [
        hide(batch, **OPTIONS, generator=generator(seed))[1].weight.whole() for seed in range(2000)
    ]
    mean = torch.stack(draws).mean(0)
    real = batch.observed[..., None] & batch.units[:, None, None]
    assert (mean[real] - 1).abs().max() < 5 * (
        3 / 2000
    ) ** 0.5  # weight 4 with probability 1/4 has variance 3
    assert not mean[~real].any()


def test_what_the_encoders_see_is_the_whole_context_on_average(batch):
    draws = [hide(batch, **OPTIONS, generator=generator(seed))[0].visible for seed in range(2000)]
    assert (
        torch.stack([each.entries / each.share for each in draws]).mean(0) - 1
    ).abs().max() < 5 * (1 / 3 / 2000) ** 0.5


def test_without_dropout_all_is_visible_and_scored(batch):
    seen, targets = hide(batch, tail_bins=0, masking=0.0, dropout=0.0, generator=generator())
    assert seen.visible is None
    assert torch.equal(seen.length, batch.length)
    assert torch.equal(
        targets.weight.whole(), (batch.observed[..., None] & batch.units[:, None, None]).float()
    )
    assert not targets.forecast.any()


def test_a_mask_of_the_session_is_that_of_all_its_trials_and_takes_its_share(batch):
    draws = [
        hide(batch, **OPTIONS, generator=generator(seed), mask_scope="session")
        for seed in range(300)
    ]
    shares = []
    for seen, targets in draws:
        both = (seen.length[:, :1] > torch.arange(12)) & (seen.length[:, 1:2] > torch.arange(12))
        assert torch.equal(targets.forecast[:, 0][both], targets.forecast[:, 1][both])
        shares.append(targets.forecast[:, 0][both & (torch.arange(12) > 0)].float().mean())
    assert (torch.stack(shares).mean() - 0.3).abs() < 5 * (0.21 / 300) ** 0.5 / 3
    trials = [hide(batch, **OPTIONS, generator=generator(seed))[1].forecast for seed in range(5)]
    assert not all(torch.equal(each[:, 0, :6], each[:, 1, :6]) for each in trials)


def test_a_trial_that_comes_round_again_is_not_distinct(sessions):
    """Four and two trials, of which three are drawn."""
    resident = DeviceTrials.of(sessions, torch.device("cpu"))
    batch = resident.batch(3, 12, generator())
    seen, _ = hide(batch, **OPTIONS, generator=generator())
    assert seen.distinct.tolist() == [[True, True, True], [True, True, False]]


def test_a_crop_is_no_longer_than_the_longest_window(sessions):
    resident, trial = (
        DeviceTrials.of(sessions, torch.device("cpu")),
        torch.tensor([[0, 1, 3], [1, 0, 1]]),
    )
    one, other = (
        crop(resident, trial, bins, generator()) for bins in (resident.counts.shape[2], 1000)
    )
    assert torch.equal(one.counts, other.counts)


def test_masking_takes_its_share_of_the_context(batch):
    draws = [
        hide(batch, tail_bins=0, masking=0.3, dropout=0.0, generator=generator(seed))
        for seed in range(400)
    ]
    within = (torch.arange(12) > 0) & (torch.arange(12) < batch.length[..., None])
    share = torch.stack([targets.forecast for _, targets in draws]).float().mean(0)[within]
    assert (share - 0.3).abs().max() < 5 * (0.21 / 400) ** 0.5
