"""Inputs that drive the dynamics are looked up at the bin that each state goes to: every road that
states take, against a plain loop over bins."""

import pytest
import torch

from metadyn.model.conditioning.shared import Shared
from metadyn.model.dynamics import Dynamics
from metadyn.model.elbo import PosteriorSample, Targets, elbo
from metadyn.model.flows.base import AffineMap, Flow
from metadyn.model.gaussian import Gaussian
from metadyn.model.masking import fill_masked
from metadyn.model.meta_ssm import Observations
from metadyn.model.ops.random import SessionGenerator
from metadyn.model.ops.weighted_log_prob import EntryWeights
from metadyn.training.initial.pretraining import rollout_loss

BINS = 9


class Driven(Flow):
    """tanh(A z) + u."""

    changed, entry = ("matrix",), "matrix"

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.matrix = AffineMap(torch.randn(2, 2, generator=generator), torch.zeros(2))

    @classmethod
    def from_config(cls, config):
        return cls()

    def forward(self, z, layers, u):
        return layers["matrix"](z, True) + u


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).double()


@pytest.fixture
def driven():
    """Two sessions' transition, of one embedding a session or of three trials', and its inputs."""

    def make(embeddings):
        u = normal(2, 3, BINS, 2, seed=1)
        dynamics = Dynamics(Driven(), Shared()).double()
        return dynamics(normal(2, embeddings, 1), normal(2, 2, seed=2), u), u

    return make


def ahead(transition, z, u):
    """The mean of the bin whose input is u (session, trial, input), from the one before."""
    weight = transition.flow.matrix.weight
    return torch.tanh(z @ weight.T) + u


@pytest.mark.parametrize("embeddings", [1, 3])
def test_a_mean_has_the_input_of_the_bin_that_it_is_told(driven, embeddings):
    transition, u = driven(embeddings)
    z, bins = normal(2, 3, 4, 2), torch.tensor([7, 0, 3, 3]).expand(2, 3, -1)
    found = transition.mean(z, bins)
    for point, number in enumerate((7, 0, 3, 3)):
        expected = ahead(transition, z[:, :, point], u[:, :, number])
        torch.testing.assert_close(found[:, :, point], expected)
    torch.testing.assert_close(transition.mean(z, slice(2, 6)), ahead(transition, z, u[:, :, 2:6]))


def test_inputs_without_bins_and_a_flow_without_inputs_are_refused(driven, model):
    transition, u = driven(1)
    with pytest.raises(ValueError, match="the bins that states go to"):
        transition.mean(normal(2, 3, 4, 2))
    plain = model(dynamics="linear").dynamics(normal(2, 1, 3), normal(2, 2), u)
    with pytest.raises(TypeError, match="positional arguments"):
        plain.mean(normal(2, 3, 4, 2), slice(0, 4))


@pytest.mark.parametrize("noise", [False, True])
@pytest.mark.parametrize("embeddings", [1, 3])
def test_masked_bins_have_the_inputs_of_their_own_trial_and_bin(driven, embeddings, noise):
    transition, u = driven(embeddings)
    z, standard = normal(2, 3, BINS, 2), normal(2, 3, BINS, 2, seed=5)
    masked = torch.rand(2, 3, BINS, generator=torch.Generator().manual_seed(0)) < 0.6
    masked[..., 0] = False
    expected = z.clone()
    for t in range(1, BINS):
        state = ahead(transition, expected[:, :, t - 1], u[:, :, t])
        if noise:
            state = state + (transition.log_q[:, :, 0] / 2).exp() * standard[:, :, t]
        expected[:, :, t] = torch.where(masked[:, :, t, None], state, z[:, :, t])
    found = fill_masked(z, masked, transition, standard if noise else None)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("embeddings", [1, 3])
def test_a_rollout_goes_on_with_the_inputs_behind_its_first_bin(driven, embeddings):
    transition, u = driven(embeddings)
    state = normal(2, 3, 2)
    path = transition.rollout(state, 4, first=3)
    for step in range(4):
        state = ahead(transition, state, u[:, :, 3 + step])
        torch.testing.assert_close(path[:, :, step], state)


def test_the_prior_of_each_bin_has_that_bins_input(driven, model):
    transition, u = driven(1)
    module, z = model([5, 5], latent_dim=2), normal(2, 3, BINS, 2)
    seen = torch.ones(2, 3, BINS, dtype=torch.bool)
    counts, length = normal(2, 3, BINS, 5).abs().round(), torch.full((2, 3), BINS)
    observations = Observations(counts, seen, length, torch.arange(2))
    weight = EntryWeights(seen.double(), torch.ones(1, 1, 1, 5, dtype=torch.bool))
    q = Gaussian(z, normal(2, 3, BINS, 2, seed=4))
    sample = PosteriorSample(Gaussian(normal(2, 1, 3), normal(2, 1, 3)), q, z, z, transition)
    terms = elbo(module, sample, observations, Targets(weight, ~seen))
    kl = torch.zeros(()).double()
    for t in range(1, BINS):
        mean = ahead(transition, z[:, :, t - 1], u[:, :, t])
        prior = Gaussian(mean, transition.log_q[:, :, 0].expand_as(mean))
        kl = kl + Gaussian(q.mean[:, :, t], q.log_var[:, :, t]).kl(prior).sum()
    torch.testing.assert_close(terms.kl_latent, kl)


@pytest.mark.parametrize("embeddings", [1, 3])
def test_rollouts_of_pretraining_meet_the_states_that_the_inputs_made(driven, embeddings):
    """From states that follow the dynamics exactly, the loss is zero; with the inputs of other bins
    it is not."""
    transition, u = driven(embeddings)
    states = [normal(2, 3, 2)]
    for t in range(1, BINS):
        states.append(ahead(transition, states[-1], u[:, :, t]))
    states = torch.stack(states, 2)
    seen = torch.ones(2, 3, BINS, dtype=torch.bool)
    observations = Observations(states, seen, torch.full((2, 3), BINS), torch.arange(2))

    def loss(transition):
        generator = SessionGenerator("cpu").manual_seed(0)
        return rollout_loss(transition, observations, states, states, generator).item()

    other, _ = driven(embeddings)
    assert loss(transition) < 1e-20
    assert loss(type(other)(other.flow, {}, other.log_q, embeddings == 1, u.roll(1, 2))) > 0.1
