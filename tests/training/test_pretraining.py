"""Pre-training: rollouts against a plain loop; gaps in the recording teach nothing."""

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import huber_loss

from metadyn.model.build import build_model
from metadyn.model.elbo import sample_posterior
from metadyn.model.meta_ssm import Observations
from metadyn.training.execution.batch import DeviceTrials, hide, uniform_below
from metadyn.training.initial.pretraining import pretrain_loss, raise_process_noise, rollout_loss
from metadyn.training.objective import Objectives


@pytest.fixture
def setting(small):
    torch.manual_seed(0)
    model = build_model(small(), [4, 4])
    observed = torch.rand(2, 3, 30) < 0.8
    seen = Observations(
        torch.zeros(2, 3, 30, 4),
        observed,
        torch.tensor([[30, 20, 25], [18, 30, 30]]),
        torch.tensor([0, 1]),
    )
    return model, seen, torch.randn(2, 3, 30, 2), torch.randn(2, 3, 1)


def test_rollouts_are_scored_as_in_a_plain_loop(setting):
    model, seen, latents, embedding = setting
    transition, targets = model.transition(embedding, seen.session), torch.randn(2, 3, 30, 2)
    loss = rollout_loss(transition, seen, latents, targets, torch.Generator().manual_seed(1))
    starts = uniform_below(
        (seen.length[..., None] - 15).expand(-1, -1, 8), torch.Generator().manual_seed(1)
    )
    errors = [[] for _ in range(15)]
    for s in range(2):
        for n in range(3):
            for start in starts[s, n].tolist():
                path = transition.rollout(latents[:, :, start], 15)[s, n]
                for k in range(15):
                    if seen.observed[s, n, start] and seen.observed[s, n, start + 1 + k]:
                        errors[k].append(huber_loss(path[k], targets[s, n, start + 1 + k]))
    torch.testing.assert_close(loss, sum(sum(each) / len(each) for each in errors) / 15)


def test_latents_of_unobserved_bins_do_not_matter(setting):
    model, seen, latents, embedding = setting
    other = torch.where(seen.observed[..., None], latents, 50.0)
    transition = model.transition(embedding, seen.session)
    one, two = (
        rollout_loss(transition, seen, z, z, torch.Generator().manual_seed(1))
        for z in (latents, other)
    )
    assert one == two


def test_unobserved_bins_teach_the_encoder_nothing(setting):
    """Whatever their latents are, and where a trial ends; of a bin that was seen it matters."""
    model, seen, latents, _ = setting
    at_trial = (torch.arange(30) < seen.length[..., None]) & seen.observed

    def loss(latents):
        return pretrain_loss(model, seen, latents, "mean", torch.Generator().manual_seed(1))

    assert loss(latents) == loss(torch.where(at_trial[..., None], latents, 50.0))
    assert loss(latents) != loss(torch.where(at_trial[..., None], 50.0, latents))


def test_pretraining_is_the_mean_distance_of_latents_of_rollouts_and_of_the_embedding_from_its_prior(
    setting,
):
    """Bin by bin and dimension by dimension: the encoder's means of bins that were seen, from a
    sample of q(e)."""
    model, seen, latents, _ = setting
    with torch.no_grad():
        model.embedding_encoder.head.bias[
            1:
        ] = -30.0  # q(e) of no width: which sample is drawn does not matter
    loss = pretrain_loss(model, seen, latents, "trial", torch.Generator().manual_seed(1))
    q = model.embedding(model.features(seen), seen.length)
    mean = model.latents(model.features(seen), q.mean, seen.length).mean
    distances, kl = [], []
    for s in range(2):
        for n in range(3):
            kl += [0.5 * (q.mean[s, n, 0] ** 2 + q.sd[s, n, 0] ** 2 - 1 - 2 * q.sd[s, n, 0].log())]
            for t in range(int(seen.length[s, n])):
                if seen.observed[s, n, t]:
                    distances += [
                        huber_loss(mean[s, n, t, k], latents[s, n, t, k]) for k in range(2)
                    ]
    generator = torch.Generator().manual_seed(1)
    q.noise(generator)
    rollouts = rollout_loss(
        model.transition(q.mean, seen.session), seen, latents, latents, generator
    )
    expected = sum(distances) / len(distances) + rollouts + 1e-3 * sum(kl) / len(kl)
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shared_noise", [False, True])
def test_process_noise_starts_at_the_mean_square_of_what_a_step_leaves_unexplained(
    small, shared_noise
):
    """Pair by pair of bins that were both seen, in sessions of other sizes; one that the step has
    not keeps its own."""
    torch.manual_seed(0)
    model = build_model(small(shared_noise=shared_noise), [3, 5, 4], process_noise=1e-6)
    observed, length = torch.rand(2, 3, 20) < 0.8, torch.tensor([[9, 20, 13], [20, 6, 17]])
    seen = Observations(
        torch.poisson(torch.ones(2, 3, 20, 5)), observed, length, torch.tensor([2, 0])
    )
    latents = torch.randn(2, 3, 20, 2) * torch.tensor([0.5, 2.0])
    before = model.log_q.detach().clone()
    raise_process_noise(model, seen, latents, "mean")
    q = model.embedding(model.features(seen), seen.length).mean.mean(1, keepdim=True)
    f = model.transition(q, seen.session).mean
    squares = [[], []]
    for s in range(2):
        for n in range(3):
            for t in range(int(length[s, n]) - 1):
                if observed[s, n, t] and observed[s, n, t + 1]:
                    state = torch.zeros(2, 1, 1, 2)
                    state[s, 0, 0] = latents[s, n, t]
                    squares[s].append((latents[s, n, t + 1] - f(state)[s, 0, 0]) ** 2)
    means = [sum(each) / len(each) for each in squares]
    expected = (
        (sum(means) / 2).log()[None]
        if shared_noise
        else torch.stack([means[1].log(), before[1], means[0].log()])
    )
    torch.testing.assert_close(model.log_q.detach(), expected.detach(), rtol=1e-4, atol=1e-4)


def test_process_noise_is_raised_and_never_lowered(setting):
    model, seen, latents, _ = setting
    with torch.no_grad():
        model.log_q[:] = torch.tensor([[-20.0, 9.0], [9.0, -20.0]])
    raise_process_noise(model, seen, latents, "mean")
    assert torch.equal(model.log_q == 9.0, torch.tensor([[False, True], [True, False]]))
    assert (model.log_q > -8.0).all()


def test_one_bin_leaves_nothing_to_roll_out(setting):
    model, seen, latents, embedding = setting
    short = replace(seen, length=torch.ones(2, 3, dtype=torch.long))
    transition = model.transition(embedding, seen.session)
    assert rollout_loss(transition, short, latents, latents, torch.Generator().manual_seed(1)) == 0


def test_the_multi_step_loss_is_of_rollouts_of_samples_against_means_that_do_not_learn(
    simulated, small, short
):
    """What it adds to loss and gradients, beside its rollouts written out from the parts of the
    step."""
    sessions, config, seed = simulated(), small(), 7
    model = build_model(config, [counts.n_units for counts in sessions], process_noise=0.05)
    trials, crops = DeviceTrials.of(sessions, torch.device("cpu")), (20, 20)

    def objective(weight):
        training = short(pretrain_steps=0, multi_step=weight, tail_bins=4, coordinated_dropout=0.25)
        loss, _ = Objectives(model, trials, config, training, crops).negative_elbo(
            0, torch.Generator().manual_seed(seed), 1.0
        )
        return loss, torch.autograd.grad(
            loss, model.parameters(), allow_unused=True, materialize_grads=True
        )

    generator = torch.Generator().manual_seed(seed)
    length = int(torch.randint(20, 21, (), generator=generator))
    batch = trials.batch(4, length, generator)
    seen, targets = hide(batch, tail_bins=4, masking=0.2, dropout=0.25, generator=generator)
    drawn = sample_posterior(model, seen, targets, pooling="mean", generator=generator)
    means = drawn.q_z.mean.detach().clone()
    ahead = rollout_loss(drawn.transition, seen, drawn.sample, means, generator)
    expected = torch.autograd.grad(
        ahead, model.parameters(), allow_unused=True, materialize_grads=True
    )

    (without, gradients), (with_it, more) = objective(0.0), objective(0.5)
    assert ahead > 0
    torch.testing.assert_close(with_it - without, 0.5 * ahead, rtol=1e-4, atol=1e-6)
    for one, other, each in zip(gradients, more, expected, strict=True):
        torch.testing.assert_close(other - one, 0.5 * each, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("n_bins", [2, 8, 30])
def test_the_loss_of_rollouts_does_not_depend_on_how_many_steps_windows_have(small, n_bins):
    """A state that stays at 0 is off by 1 from its targets at every step: Huber's distance is a
    half."""
    model = build_model(small(conditioning="shared", residual=True), [1])
    with torch.no_grad():
        model.dynamics.flow.output.weight.zero_()
        model.dynamics.flow.output.bias.zero_()
    states, observed, session = (
        torch.zeros(1, 3, n_bins, 2),
        torch.ones(1, 3, n_bins, dtype=torch.bool),
        torch.tensor([0]),
    )
    seen = Observations(torch.zeros(1, 3, n_bins, 1), observed, torch.full((1, 3), n_bins), session)
    transition = model.transition(torch.zeros(1, 1, 1), session)
    loss = rollout_loss(transition, seen, states, states + 1, torch.Generator().manual_seed(0))
    assert float(loss.detach()) == pytest.approx(0.5)
