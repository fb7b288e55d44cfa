"""Distillation: rollouts against a plain loop; gaps in the recording teach nothing."""

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import huber_loss

from metadyn.model.build import build_model
from metadyn.model.meta_ssm import Observations
from metadyn.training.batch import uniform_below
from metadyn.training.distil import ROLLOUT, STARTS, rollout_loss


@pytest.fixture
def setting(small):
    torch.manual_seed(0)
    model = build_model(small(), [4, 4])
    observed = torch.rand(2, 3, 30) < 0.8
    seen = Observations(torch.zeros(2, 3, 30, 4), observed, torch.tensor([[30, 20, 25], [18, 30, 30]]), torch.tensor([0, 1]))
    return model, seen, torch.randn(2, 3, 30, 2), torch.randn(2, 3, 1)


def test_rollouts_are_scored_as_in_a_plain_loop(setting):
    model, seen, latents, embedding = setting
    loss = rollout_loss(model, seen, latents, embedding, torch.Generator().manual_seed(1))
    transition = model.transition(embedding, seen.session)
    starts = uniform_below((seen.length[..., None] - ROLLOUT).expand(-1, -1, STARTS), torch.Generator().manual_seed(1))
    errors = [[] for _ in range(ROLLOUT)]
    for s in range(2):
        for n in range(3):
            for start in starts[s, n].tolist():
                path = transition.rollout(latents[:, :, start], ROLLOUT)[s, n]
                for k in range(ROLLOUT):
                    if seen.observed[s, n, start] and seen.observed[s, n, start + 1 + k]:
                        errors[k].append(huber_loss(path[k], latents[s, n, start + 1 + k]))
    torch.testing.assert_close(loss, sum(sum(each) / len(each) for each in errors) / ROLLOUT)


def test_latents_of_unobserved_bins_do_not_matter(setting):
    model, seen, latents, embedding = setting
    other = torch.where(seen.observed[..., None], latents, 50.0)
    one, two = (rollout_loss(model, seen, z, embedding, torch.Generator().manual_seed(1)) for z in (latents, other))
    assert one == two


def test_one_bin_leaves_nothing_to_roll_out(setting):
    model, seen, latents, embedding = setting
    short = replace(seen, length=torch.ones(2, 3, dtype=torch.long))
    assert rollout_loss(model, short, latents, embedding, torch.Generator().manual_seed(1)) == 0
