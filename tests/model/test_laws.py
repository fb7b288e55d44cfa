"""What holds for every flow × conditioning × likelihood of the tables in `metadyn.choices`: whoever
adds a line to one of them gets these tests without writing any."""

import itertools

import numpy as np
import pytest
import torch
from safetensors.torch import load
from torch.utils._python_dispatch import TorchDispatchMode

from metadyn.choices import CONDITIONINGS, FLOWS, LIKELIHOODS
from metadyn.model.elbo import Targets, elbo, sample_posterior
from metadyn.model.meta_ssm import Observations
from metadyn.model.ops.weighted_log_prob import EntryWeights
from metadyn.model.trained import SHARED_TENSORS, SharedLatents, TrainedModel
from metadyn.records import SessionEntry, Source
from ndx_metadyn import LatentDynamicsModel, rollout
from ndx_metadyn.rollout.conditionings import NUMPY_CONDITIONINGS
from ndx_metadyn.rollout.flows import NUMPY_FLOWS
from ndx_metadyn.rollout.likelihoods import LINKS, NUMPY_LIKELIHOODS
from ndx_metadyn.weights import NoTwinError

N_UNITS, BINS = [3, 5], 8

DYNAMICS = list(itertools.product(FLOWS, CONDITIONINGS))
MODELS = [(*kind, *each) for kind in DYNAMICS for each in LIKELIHOODS]  # these with their link
dynamics = pytest.mark.parametrize("kind", DYNAMICS, ids=lambda kind: "-".join(filter(None, kind)))
models = pytest.mark.parametrize("kind", MODELS, ids=lambda kind: "-".join(filter(None, kind)))


def options_of(kind):
    given = zip(("dynamics", "conditioning", "likelihood", "link"), kind, strict=False)
    return {key: word for key, word in given if word}


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).double()


def transition_of(module, embeddings, sessions=2):
    """The transition of three trials a session, each with its own embedding, or (1) with one."""
    return module.transition(normal(sessions, embeddings, 3), torch.arange(sessions))


@dynamics
def test_the_table_says_the_layers_that_a_flow_has(model, kind):
    flow = model(**options_of(kind)).dynamics.flow
    assert FLOWS[kind[0]][1] == tuple(flow.maps)
    assert {*flow.changed, flow.entry} <= set(flow.maps)


@models
def test_states_and_observations_have_their_shapes(model, kind):
    module = model(**options_of(kind))
    z = normal(2, 3, BINS, 2)
    for embeddings in (1, 3):
        transition = transition_of(module, embeddings)
        assert transition.mean(z).shape == transition(z).log_var.shape == z.shape
        assert transition.rollout(z[:, :, 0], 5).shape == (2, 3, 5, 2)
        assert transition.weight_change().shape in ((), (2, embeddings))
    assert module.likelihood(z, torch.arange(2)).mean.shape == (2, 3, BINS, max(N_UNITS))


@dynamics
def test_one_embedding_a_session_is_that_of_all_its_trials(model, kind):
    module, z = model(**options_of(kind)), normal(2, 3, BINS, 2)
    embedding = normal(2, 1, 3)
    one, each = (
        module.transition(values, torch.arange(2))
        for values in (embedding, embedding.expand(-1, 3, -1))
    )
    torch.testing.assert_close(one.mean(z), each.mean(z), rtol=1e-12, atol=1e-12)


def as_matrix(layer, n_inputs):
    """Weight (trial, out, in) and bias (trial, out) of a layer of one session, by what it makes of
    unit vectors and of zero."""
    points = torch.cat([torch.eye(n_inputs), torch.zeros(1, n_inputs)]).double()
    out = layer(points.expand(1, 3, -1, -1), False)[0]
    return (out[:, :-1] - out[:, -1:]).mT, out[:, -1]


@dynamics
def test_changed_layers_are_those_of_dense_weights_and_the_penalty_is_their_norm(model, kind):
    """Low rank or not: W + ΔW written out makes the same of any x, and of its tanh."""
    module = model([3], **options_of(kind))
    transition = transition_of(module, 3, sessions=1)
    squares = torch.zeros(3).double()
    for name, each in transition.flow.maps.items():
        layer, x = transition.layers[name], normal(1, 3, BINS, each.weight.shape[1])
        weight, bias = as_matrix(layer, each.weight.shape[1])
        dense = torch.einsum("noi,nti->nto", weight, x[0]) + bias[:, None]
        torch.testing.assert_close(layer(x, False)[0], dense, rtol=1e-11, atol=1e-11)
        torch.testing.assert_close(layer(x, True)[0], dense.tanh(), rtol=1e-11, atol=1e-11)
        squares += ((weight - each.weight) ** 2).sum((1, 2)).detach()
    penalty = transition.weight_change().detach().expand(1, 3)
    torch.testing.assert_close(penalty**2, squares[None] + 1e-12 * (penalty != 0))


def batch_of(sessions, seed=0):
    """Observations of three trials a session and their targets, the last two bins forecast."""
    counts = normal(sessions, 3, BINS, max(N_UNITS), seed=seed).abs().round()
    seen = torch.ones(sessions, 3, BINS, dtype=torch.bool)
    observations = Observations(
        counts, seen, torch.full((sessions, 3), BINS - 2), torch.arange(sessions)
    )
    weight = EntryWeights(seen.double(), torch.ones(1, 1, 1, max(N_UNITS), dtype=torch.bool))
    return observations, Targets(weight, (torch.arange(BINS) >= BINS - 2).expand_as(seen))


def loss_of(module, sessions):
    seen, targets = batch_of(sessions)
    generator = torch.Generator().manual_seed(0)
    sample = sample_posterior(module, seen, targets, pooling="mean", generator=generator)
    return elbo(module, sample, seen, targets).loss(1.0, 0.1)


@models
def test_a_gradient_reaches_each_parameter(model, kind):
    module = model([5, 5], **options_of(kind))
    loss_of(module, 2).backward()
    still = [
        name
        for name, each in module.named_parameters()
        if each.grad is None or not each.grad.isfinite().all() or not each.grad.any()
    ]
    assert not still


class Calls(TorchDispatchMode):
    """How many operations torch is asked for."""

    def __init__(self):
        super().__init__()
        self.number = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.number += 1
        return func(*args, **(kwargs or {}))


@models
def test_a_step_of_more_sessions_takes_no_more_operations(model, kind):
    numbers = []
    for sessions in (2, 7):
        module = model([5] * sessions, **options_of(kind))
        with Calls() as calls:
            loss_of(module, sessions).backward()
        numbers.append(calls.number)
    assert numbers[0] == numbers[1] > 0


@pytest.fixture
def trained(model, config):
    """A model of two sessions as `fit` ends with it, in double precision."""

    def make(kind):
        entries = tuple(
            SessionEntry(f"s{row}", n, tuple(range(n)), Source()) for row, n in enumerate(N_UNITS)
        )
        ones = np.ones(2, np.float32)
        shared = SharedLatents(ones, ones, (), np.zeros((0, 9, 2)), np.zeros((2, 2)), np.eye(2))
        module, options = model(**options_of(kind)), config(**options_of(kind))
        return TrainedModel(module, options, 0.02, entries, shared)

    return make


def has_numpy_form(model):
    """Whether ndx_metadyn has a line for each part of a stored model; it need not."""
    dynamics, link = model.get("dynamics", "mlp"), model["link"]
    return (
        dynamics in NUMPY_FLOWS
        and model["conditioning"] in NUMPY_CONDITIONINGS
        and model["likelihood"] in NUMPY_LIKELIHOODS
        and link in LINKS
    )


@models
def test_the_numpy_rollout_of_the_stored_model_is_torchs(trained, kind):
    trained = trained(kind)
    file = trained.file()
    stored = LatentDynamicsModel.from_safetensors(
        file.weights, file.config, "A model.", file.architecture
    )
    if not has_numpy_form(file.config["model"]):
        with pytest.raises(NoTwinError, match="read the model with metadyn"):
            rollout(stored, np.zeros(3), np.zeros(2), 1, "s1")
        return
    embedding, latent = normal(1, 4, 3, seed=1), normal(1, 4, 2, seed=2)
    session = torch.tensor([1])
    with torch.no_grad():
        latents = trained.module.transition(embedding, session).rollout(latent, 12)
        mean = trained.module.likelihood(latents, session).mean[0, ..., : N_UNITS[1]]
    given = embedding[0] if trained.module.dynamics.embedded else None
    ours = rollout(stored, given, latent[0], 12, "s1")
    assert np.ptp(ours.latents.values, axis=1).min() > 1e-3
    np.testing.assert_allclose(ours.latents, latents[0], rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(ours.rates, mean / 0.02, rtol=1e-10, atol=1e-10)


@models
def test_a_model_read_back_is_the_one_that_was_stored(trained, kind):
    trained = trained(kind)
    trained.module.float()
    file = trained.file()
    back = TrainedModel.from_file(file)
    assert back.config == trained.config
    assert file.config["format"] == (1 if kind[0] == "mlp" else 2)
    assert back.file().digest == file.digest
    ours, theirs = trained.module.state_dict(), back.module.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@models
def test_a_file_gives_no_two_tensors_one_name_and_says_which_layers_change(trained, kind):
    trained = trained(kind)
    file = trained.file()
    assert len(load(file.weights)) == len(trained.module.state_dict()) + len(SHARED_TENSORS)
    layers = file.config["model"]["changed_layers"]
    assert len(layers) == len(trained.module.dynamics.flow.changed)
