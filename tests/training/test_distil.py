"""Distillation: rollouts against a plain loop; gaps in the recording teach nothing."""

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import huber_loss

from metadyn.model.build import build_model
from metadyn.model.elbo import draw
from metadyn.model.meta_ssm import Observations
from metadyn.training.batch import Resident, hide, uniform_below
from metadyn.training.distil import ROLLOUT, STARTS, rollout_loss
from metadyn.training.objective import make_objective


@pytest.fixture
def setting(small):
    torch.manual_seed(0)
    model = build_model(small(), [4, 4])
    observed = torch.rand(2, 3, 30) < 0.8
    seen = Observations(torch.zeros(2, 3, 30, 4), observed, torch.tensor([[30, 20, 25], [18, 30, 30]]), torch.tensor([0, 1]))
    return model, seen, torch.randn(2, 3, 30, 2), torch.randn(2, 3, 1)


def test_rollouts_are_scored_as_in_a_plain_loop(setting):
    model, seen, latents, embedding = setting
    transition, targets = model.transition(embedding, seen.session), torch.randn(2, 3, 30, 2)
    loss = rollout_loss(transition, seen, latents, targets, torch.Generator().manual_seed(1))
    starts = uniform_below((seen.length[..., None] - ROLLOUT).expand(-1, -1, STARTS), torch.Generator().manual_seed(1))
    errors = [[] for _ in range(ROLLOUT)]
    for s in range(2):
        for n in range(3):
            for start in starts[s, n].tolist():
                path = transition.rollout(latents[:, :, start], ROLLOUT)[s, n]
                for k in range(ROLLOUT):
                    if seen.observed[s, n, start] and seen.observed[s, n, start + 1 + k]:
                        errors[k].append(huber_loss(path[k], targets[s, n, start + 1 + k]))
    torch.testing.assert_close(loss, sum(sum(each) / len(each) for each in errors) / ROLLOUT)


def test_latents_of_unobserved_bins_do_not_matter(setting):
    model, seen, latents, embedding = setting
    other = torch.where(seen.observed[..., None], latents, 50.0)
    transition = model.transition(embedding, seen.session)
    one, two = (rollout_loss(transition, seen, z, z, torch.Generator().manual_seed(1)) for z in (latents, other))
    assert one == two


def test_one_bin_leaves_nothing_to_roll_out(setting):
    model, seen, latents, embedding = setting
    short = replace(seen, length=torch.ones(2, 3, dtype=torch.long))
    transition = model.transition(embedding, seen.session)
    assert rollout_loss(transition, short, latents, latents, torch.Generator().manual_seed(1)) == 0


def test_the_multi_step_loss_is_of_rollouts_of_samples_against_means_that_do_not_learn(simulated, small, short):
    """What it adds to loss and gradients, beside its rollouts written out from the parts of the step."""
    sessions, config, seed = simulated(), small(), 7
    model = build_model(config, [counts.n_units for counts in sessions], process_noise=0.05)
    trials, crops = Resident.of(sessions, torch.device("cpu")), (20, 20)

    def objective(weight):
        training = short(distil_steps=0, multi_step=weight, tail_bins=4)
        loss, _ = make_objective(model, trials, config, training, crops, False)(0, torch.Generator().manual_seed(seed), 1.0)
        return loss, torch.autograd.grad(loss, model.parameters(), allow_unused=True, materialize_grads=True)

    generator = torch.Generator().manual_seed(seed)
    length = int(torch.randint(20, 21, (), generator=generator))
    batch = trials.batch(4, length, generator)
    seen, targets = hide(batch, tail_bins=4, masking=0.2, dropout=0.25, generator=generator)
    drawn = draw(model, seen, targets, pooling="mean", generator=generator)
    means = drawn.q_z.mean.detach().clone()
    ahead = rollout_loss(drawn.transition, seen, drawn.sample, means, generator)
    expected = torch.autograd.grad(ahead, model.parameters(), allow_unused=True, materialize_grads=True)

    (without, gradients), (with_it, more) = objective(0.0), objective(0.5)
    assert ahead > 0
    torch.testing.assert_close(with_it - without, 0.5 * ahead, rtol=1e-4, atol=1e-6)
    for one, other, each in zip(gradients, more, expected, strict=True):
        torch.testing.assert_close(other - one, 0.5 * each, rtol=1e-3, atol=1e-5)
