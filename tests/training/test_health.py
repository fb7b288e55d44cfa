"""Warnings while training: a collapsed embedding, flat rates; each once, and only where it is
so."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from metadyn.model.build import build_model
from metadyn.model.likelihoods.poisson import PoissonLikelihood
from metadyn.training import health
from metadyn.training.execution.batch import DeviceTrials
from metadyn.training.execution.loop import StepReport
from metadyn.training.fit import fit
from metadyn.training.health import (
    COLLAPSED_EMBEDDING,
    FLAT_RATES,
    embedding_spread,
    warning_reporter,
)
from metadyn.training.initial.activity import init_from_activity
from metadyn.training.initial.initialise import set_session

GOOD, BAD = {"hidden_entries": 0.1, "forecast": -0.2}, {"hidden_entries": 0.001, "forecast": -0.2}


@pytest.fixture
def messages(simulated, small, short):
    """Messages of a run of ten validations with the scores given, `change` made to the model
    before."""

    def of(scores=GOOD, change=lambda model: None, sessions=3, spread=None, **options):
        training, said, config = short(pretrain_steps=4, steps=40), [], small(**options)
        model = build_model(config, [each.n_units for each in simulated()[:sessions]])
        with torch.no_grad():
            change(model)
        trials = DeviceTrials.of(simulated()[:sessions], torch.device("cpu"))
        reporter = warning_reporter(said.append, model, trials, training, 24)
        for step in range(4, 45, 4):
            reporter(StepReport(step, 44, "pretrain" if step <= 4 else "elbo", {}, dict(scores)))
        return [(each.step, each.message) for each in said if each.message]

    return of


def collapse(model):
    """An embedding head whose mean says the same of everything."""
    model.embedding_encoder.head.weight[: model.embedding_dim] = 0


def spread_out(model):
    """Read-ins that hand each session's embedding encoder a constant of its own, and no noise."""
    model.readin.weight_in[:] = 0
    model.readin.bias_in[:] = torch.tensor([-1.0, 0.5, 2.0])[: len(model.readin.bias_in), None]


def test_a_collapsed_embedding_is_said_once_after_a_quarter_of_the_steps(messages):
    assert messages(change=collapse) == [(16, COLLAPSED_EMBEDDING)]


def test_an_embedding_that_tells_sessions_apart_is_not_remarked_on(messages):
    assert messages(change=spread_out) == []


def test_one_dimension_that_tells_sessions_apart_is_enough(messages):
    """Of two, the other says nothing; if neither does, it is said."""

    def one_of_two(model):
        spread_out(model)
        model.embedding_encoder.head.weight[1] = 0

    assert messages(change=one_of_two, embedding_dim=2) == []
    assert messages(change=collapse, embedding_dim=2) == [(16, COLLAPSED_EMBEDDING)]


@pytest.mark.parametrize(
    ("scores", "flat"), [((0.0049, 0.0049), True), ((0.0051, -1.0), False), ((-1.0, 0.0051), False)]
)
def test_rates_are_flat_where_both_scores_are_below_five_thousandths_of_a_bit(
    messages, scores, flat
):
    given = dict(zip(("hidden_entries", "forecast"), scores, strict=True))
    assert messages(scores=given, change=spread_out) == [(16, FLAT_RATES)] * flat


def test_one_session_or_shared_dynamics_have_no_embedding_to_collapse(messages):
    assert messages(change=collapse, sessions=1) == []
    assert messages(conditioning="shared") == []


def test_flat_rates_are_said_once(messages):
    assert messages(scores=BAD, change=spread_out) == [(16, FLAT_RATES)]
    assert messages(scores=BAD, change=spread_out, likelihood="gaussian") == []
    assert messages(scores=BAD, change=collapse) == [(16, f"{COLLAPSED_EMBEDDING}; {FLAT_RATES}")]


def test_the_spread_is_that_of_a_plain_loop(simulated, small, short):
    """Whole windows of all trials, so that nothing random is left: SD of session means, and root of
    the mean variance."""
    sessions = simulated()
    model = build_model(small(), [each.n_units for each in sessions])
    for row, start in enumerate(init_from_activity(sessions, PoissonLikelihood, 2, 3.0)):
        set_session(model, row, start)
    between, within = embedding_spread(
        model, DeviceTrials.of(sessions, torch.device("cpu")), short(trials_per_session=8), 24
    )
    means = []
    for row, counts in enumerate(sessions):
        y = torch.as_tensor(counts.counts.astype("float32"))
        units = slice(counts.n_units)
        x = (y - model.readin.mean[row, units]) / model.readin.sd[row, units]
        hidden = torch.relu(x @ model.readin.weight_in[row, units] + model.readin.bias_in[row])
        features = hidden @ model.readin.weight_out[row] + model.readin.bias_out[row]
        gru = torch.nn.GRU(
            features.shape[-1], model.embedding_encoder.gru.hidden_size, batch_first=True
        )
        gru.load_state_dict(model.embedding_encoder.gru.state_dict())
        last = gru(features)[1][0]
        means.append(model.embedding_encoder.head(last)[:, :1].detach())
    torch.testing.assert_close(between, torch.stack([each.mean(0) for each in means]).std(0))
    variance = sum(((each - each.mean(0)) ** 2).mean(0) for each in means) / 3
    torch.testing.assert_close(within, variance.sqrt())


def test_fit_says_that_rates_are_flat(simulated, small, short):
    """Spikes that follow nothing: shuffled over bins, the mean rate is all there is to know."""
    rng = np.random.default_rng(0)
    sessions = []
    for counts in simulated(n_trials=12):
        shuffled = rng.permuted(counts.counts.reshape(-1, counts.n_units), axis=0)
        sessions.append(replace(counts, counts=shuffled.reshape(counts.counts.shape)))
    said = []
    fit(sessions, small(), short(), report=said.append)
    messages = [each.message for each in said if each.message]
    assert sum(FLAT_RATES in message for message in messages) == 1
    assert health.FLAT_BITS == 0.005
