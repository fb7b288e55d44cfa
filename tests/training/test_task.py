"""What a fit asks of its steps: rates and weights by step, bounds on gradients, options that
arrive, trials that teach."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from metadyn.model.build import build_model
from metadyn.training.execution.batch import DeviceTrials
from metadyn.training.execution.host_trials import HostTrials
from metadyn.training.execution.step import locate, seed_of, take_step
from metadyn.training.fit import fit
from metadyn.training.objective import Objectives
from metadyn.training.sessions import split_sessions
from metadyn.training.task import make_stages, make_task


@pytest.fixture
def task(uneven, small, short):
    """task(**options) → the task of a fit of uneven sessions; `pooled`: one in which a step takes
    two of them."""

    def make(pooled=False, **options):
        sessions, config = uneven(), small()
        model = build_model(config, [counts.n_units for counts in sessions], seed=1)
        cpu = torch.device("cpu")
        latents = [np.zeros((*counts.observed.shape, 2), np.float32) for counts in sessions]
        trials = (
            HostTrials(sessions, cpu, 2, latents)
            if pooled
            else DeviceTrials.of(sessions, cpu, latents)
        )
        return make_task(model, trials, trials, config, short(**options), (10, 24))

    return make


def test_the_learning_rate_stands_at_its_peak_while_pretraining_and_falls_to_zero_over_the_steps_on_the_elbo(
    task,
):
    given = task(pretrain_steps=5, steps=10, learning_rate=0.02)
    assert given.steps == 15
    assert [given.learning_rate(step) for step in range(6)] == [0.02] * 6
    later = [0.01 * (1 + np.cos(np.pi * step / 10)) for step in range(11)]
    np.testing.assert_allclose(
        [given.learning_rate(5 + step) for step in range(11)], later, atol=1e-12
    )


def test_the_kl_terms_gain_their_weight_over_the_ramp_from_the_first_step_on_the_elbo(task):
    given = task(pretrain_steps=5, steps=10, kl_ramp=4, kl_weight=0.4)
    np.testing.assert_allclose(
        [given.kl_weight(5 + step) for step in range(6)], [0.1, 0.2, 0.3, 0.4, 0.4, 0.4]
    )
    assert [given.stage(step).name for step in (0, 4, 5, 14)] == [
        "pretrain",
        "pretrain",
        "elbo",
        "elbo",
    ]


def norm_and_gradients(task, step):
    """Norm of the gradients of a step, and they, rows without one as zeros."""
    take_step(task, step, 1.0)
    gradients = {
        name: each.grad.to_dense()
        for name, each in task.parameters.items()
        if each.grad is not None
    }
    return sum(float((each**2).sum()) for each in gradients.values()) ** 0.5, gradients


@pytest.mark.parametrize("pooled", [False, True])
@pytest.mark.parametrize("step", [1, 6])
def test_gradients_beyond_the_bound_are_scaled_to_it_and_others_left(task, pooled, step):
    whole, gradients = norm_and_gradients(task(pooled, clip=1e9), step)
    assert norm_and_gradients(task(pooled, clip=2 * whole), step)[0] == pytest.approx(
        whole, rel=1e-4
    )
    norm, scaled = norm_and_gradients(task(pooled, clip=whole / 5), step)
    assert norm == pytest.approx(whole / 5, rel=1e-4)
    for name, gradient in gradients.items():
        torch.testing.assert_close(scaled[name], gradient / 5, rtol=1e-3, atol=1e-6)


def test_decay_and_seed_are_those_asked_for(task):
    """A weight that has no gradient shrinks by rate times decay; one that is spared stays."""
    given = task(pretrain_steps=0, weight_decay=0.3, learning_rate=0.01, seed=4)
    before = {name: each.detach().clone() for name, each in given.parameters.items()}
    for each in given.parameters.values():
        each.grad = torch.zeros_like(each)
    given.optimiser.step()
    torch.testing.assert_close(
        given.parameters["dynamics.flow.first.weight"].detach(),
        before["dynamics.flow.first.weight"] * (1 - 0.003),
    )
    assert torch.equal(given.parameters["likelihood.weight"], before["likelihood.weight"])
    assert seed_of(given, 3) != seed_of(task(seed=5), 3)


@pytest.fixture
def objective(uneven, small, short):
    """objective(step, seed, **options) → loss and terms of a step of one model, and its process
    noise before and after."""

    def of(step, seed=0, kl_weight=0.3, **options):
        sessions, config = uneven(), small()
        model = build_model(
            config, [counts.n_units for counts in sessions], seed=1, process_noise=1e-3
        )
        latents = [
            np.random.default_rng(0).normal(size=(*counts.observed.shape, 2)) for counts in sessions
        ]
        trials = DeviceTrials.of(
            sessions, torch.device("cpu"), [each.astype(np.float32) for each in latents]
        )
        stages = make_stages(Objectives(model, trials, config, short(**options), (10, 24)))
        before = model.log_q.detach().clone()
        stage, step = locate(stages, step)
        loss, terms = stage.objective(step, torch.Generator().manual_seed(seed), kl_weight)
        return float(loss.detach()), terms, before, model.log_q.detach().clone()

    return of


@pytest.mark.parametrize(
    "option",
    [
        {"masked": "sample"},
        {"mask_scope": "session"},
        {"masked_kl": True},
        {"masking": 0.6},
        {"coordinated_dropout": 0.7},
    ],
    ids=str,
)
def test_each_option_of_a_step_alone_changes_its_loss(objective, option):
    usual = objective(20)[0]
    assert objective(20)[0] == usual
    assert objective(20, **option)[0] != pytest.approx(usual, rel=1e-4)


def test_the_loss_is_what_its_terms_weigh_together(objective):
    loss, terms, _, _ = objective(20, kl_weight=0.3, weight_change_penalty=0.7)
    divergences = sum(terms[f"kl_{name}"] for name in ("latent", "initial", "embedding"))
    assert loss == pytest.approx(
        float(-terms["log_likelihood"] + 0.3 * divergences + 0.7 * terms["weight_change"]), rel=1e-4
    )


def test_process_noise_is_started_when_pretraining_ends_and_then_learnt(objective):
    for step in (3, 4, 5):
        _, _, before, after = objective(step, pretrain_steps=4)
        assert torch.equal(before, after) == (step != 4), step


def test_trials_that_choose_the_checkpoint_teach_nothing_and_set_the_noise_of_forecasts(
    uneven, small, short
):
    """With other counts in them, and one validation, at the end: the same weights, frame and
    embeddings; other noise."""
    sessions, training = (
        uneven(),
        short(pretrain_steps=2, steps=3, validate_every=9, validation_fraction=0.4),
    )
    held_out = split_sessions(sessions, 0.4, training.seed).validation
    rng, garbled = np.random.default_rng(0), []
    for counts, part in zip(sessions, held_out, strict=True):
        other = (
            np.isin(counts.windows.trial_row, part.windows.trial_row)[:, None, None]
            & counts.observed[..., None]
        )
        noise = rng.poisson(3.0, counts.counts.shape).astype(counts.counts.dtype)
        garbled.append(replace(counts, counts=np.where(other, noise, counts.counts)))
    one, two = (fit(each, small(), training) for each in (sessions, garbled))
    for name, value in one.module.state_dict().items():
        assert torch.equal(value, two.module.state_dict()[name]), name
    for name in ("latent_sd", "weight_var", "centers", "trial_spread"):
        np.testing.assert_array_equal(
            getattr(one.shared_latents, name), getattr(two.shared_latents, name)
        )
    pairs = list(zip(one.sessions, two.sessions, strict=True))
    assert all(
        a.embedding_mean == b.embedding_mean and a.embedding_sd == b.embedding_sd for a, b in pairs
    )
    assert any(a.noise_scale != b.noise_scale for a, b in pairs)
