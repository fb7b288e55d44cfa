"""What the encoders see of a trial in training: by default every context from a third of a short
window to all of it."""

import numpy as np
import pytest
import torch

from metadyn.config import TrainingConfig
from metadyn.model.build import build_model
from metadyn.training import objective
from metadyn.training.execution.batch import DeviceTrials
from metadyn.training.execution.step import locate
from metadyn.training.objective import Objectives, crop_range, tail_range
from metadyn.training.task import make_stages


class Seen(Exception):
    """Carries what a step would have shown to the encoders."""


@pytest.fixture
def shown(simulated, small, monkeypatch):
    """shown(training, stage) → Observations of some steps, of windows of 24 bins."""
    sessions = simulated()

    def instead(model, seen, *_, **__):
        raise Seen(seen)

    monkeypatch.setattr(objective, "sample_posterior", instead)
    monkeypatch.setattr(objective, "pretrain_loss", instead)

    def show(training: TrainingConfig, first: int, static: bool = False) -> list:
        latents = [np.zeros((*each.observed.shape, 2), np.float32) for each in sessions]
        warm = latents if training.pretrain_steps else None
        trials = DeviceTrials.of(sessions, torch.device("cpu"), warm)
        model = build_model(small(), [counts.n_units for counts in sessions])
        crops = crop_range(training, sessions)
        stages = make_stages(Objectives(model, trials, small(), training, crops, static))
        noted = []
        for step in range(first, first + 300):
            stage, step_of_stage = locate(stages, step)
            with pytest.raises(Seen) as raised:
                stage.objective(step_of_stage, torch.Generator().manual_seed(step), 1.0)
            noted.append(raised.value.args[0])
        return noted

    return show


def lengths(shown: list) -> set[int]:
    return {length for seen in shown for length in seen.length.flatten().tolist()}


@pytest.mark.parametrize("static", [False, True])
def test_contexts_of_short_windows_range_from_a_third_to_all_and_start_at_the_first_bin(
    shown, simulated, static
):
    seen = shown(TrainingConfig(pretrain_steps=0), 0, static)
    assert lengths(seen) == set(range(8, 25))
    counts = simulated()[0]
    starts = {
        tuple(bin.tolist()) for each in seen for bin in each.counts[0, :, 0, : counts.n_units]
    }
    assert starts <= {tuple(map(float, trial[0])) for trial in counts.counts}


def test_a_tail_that_was_asked_for_is_taken_as_it_is(shown):
    assert lengths(shown(TrainingConfig(pretrain_steps=0, tail_bins=0), first=0)) == {24}
    assert lengths(shown(TrainingConfig(pretrain_steps=0, tail_bins=5), first=0)) == {19}
    assert lengths(shown(TrainingConfig(pretrain_steps=0, crop_bins=(20, 20)), first=0)) == {16}


def test_pretraining_sees_whole_windows(shown):
    assert lengths(shown(TrainingConfig(pretrain_steps=300), first=0)) == {24}


@pytest.mark.parametrize(("crops", "bins"), [((60, 120), 12), ((400, 500), 20), ((3, 9), 1)])
def test_the_tail_of_given_crops_is_a_fifth_of_the_shortest_up_to_20(crops, bins):
    assert tail_range(TrainingConfig(crop_bins=crops), crops[1]) == (bins, bins)


@pytest.mark.parametrize(
    ("longest", "crops", "tails"),
    [
        (24, (24, 24), (0, 16)),
        (75, (75, 75), (0, 50)),
        (76, (60, 76), (0, 50)),
        (400, (60, 150), (0, 50)),
    ],
)
def test_by_default_crops_are_whole_windows_up_to_75_bins_else_60_to_150_and_tails_two_thirds_up_to_50(
    simulated, longest, crops, tails
):
    """By the longest window of any session, which need not be the first."""
    sessions = [
        *simulated(n_sessions=1, n_trials=3, n_bins=20),
        *simulated(n_sessions=1, n_trials=2, n_bins=longest),
    ]
    assert crop_range(TrainingConfig(), sessions) == crops
    assert tail_range(TrainingConfig(), crops[1]) == tails
    assert crop_range(TrainingConfig(crop_bins=(7, 9)), sessions) == (7, 9)


def test_crops_of_a_range_are_of_every_length_in_it(shown):
    """And start anywhere: the first bin that is shown is not always a window's first."""
    training = TrainingConfig(pretrain_steps=0, crop_bins=(6, 9), tail_bins=0)
    seen = shown(training, 0)
    assert lengths(seen) == {6, 7, 8, 9}
    assert {each.counts.shape[2] for each in seen} == {6, 7, 8, 9}


def test_entries_are_hidden_at_the_share_asked_for_while_pretraining_too(shown):
    for pretrain_steps in (0, 300):
        seen = shown(TrainingConfig(pretrain_steps=pretrain_steps, coordinated_dropout=0.4), 0)
        visible = torch.cat([each.visible.entries.flatten() for each in seen]).float()
        assert visible.mean() == pytest.approx(0.6, abs=0.01)
        assert {each.visible.share for each in seen} == {0.6}


def test_a_tail_of_a_given_length_costs_no_random_number(shown):
    """Trials and hidden entries stay those of a step without a tail."""
    one, other = (
        shown(TrainingConfig(pretrain_steps=0, tail_bins=bins), first=0) for bins in (0, 5)
    )
    for without, with_tail in zip(one, other, strict=True):
        assert torch.equal(without.counts, with_tail.counts)
        assert torch.equal(without.visible.entries, with_tail.visible.entries)


def test_half_of_the_steps_see_whole_windows_and_other_lengths_of_the_tail_are_equally_likely(
    shown,
):
    """Of 24 bins, 1 to 16 are hidden in the other half, the same number for all trials of a
    step."""
    seen = [
        each.length
        for first in range(0, 3900, 300)
        for each in shown(TrainingConfig(pretrain_steps=0), first)
    ]
    assert all(len(length.unique()) == 1 for length in seen)
    share = torch.bincount(torch.stack([length[0, 0] for length in seen]), minlength=25) / len(seen)
    assert not share[:8].any()
    assert (share[8:24] - 1 / 33).abs().max() < 5 * (1 / 33 / len(seen)) ** 0.5
    assert abs(share[24] - 17 / 33) < 5 * (0.25 / len(seen)) ** 0.5
