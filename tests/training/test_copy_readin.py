"""A new session behind the read-in of a training session: features, readouts and the choice of that
session."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from metadyn.model.build import build_model
from metadyn.model.trained import SharedLatents, TrainedModel
from metadyn.records import SessionEntry
from metadyn.training.alignment.initialise import (
    copy_readin,
    initialise_session,
    nearest_session,
    slope_of_counts,
)
from metadyn.training.alignment.new_session import new_session_model
from metadyn.training.alignment.placement import Placement
from metadyn.training.initial.initialise import initialise_sessions

LINKS = [{"likelihood": "gaussian"}, {"link": "exp"}, {"link": "softplus"}]


@pytest.fixture
def known(uneven, small):
    """known(**options) → a model of three sessions of other sizes, with centres and read-ins of
    their own."""

    def make(**options) -> TrainedModel:
        config, sessions = small(**options), uneven()
        module = build_model(config, [counts.n_units for counts in sessions], seed=2)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for tensor in module.readin.state_dict().values():
                tensor += 0.3 * torch.rand(tensor.shape, generator=generator)
            module.likelihood.bias.normal_(generator=generator)
            for row, counts in enumerate(sessions):
                module.readin.mean[row, counts.n_units :] = 0.0  # as counts of padding are
        entries = tuple(SessionEntry.of(counts) for counts in sessions)
        entries = tuple(
            replace(entry, embedding_mean=(e,), embedding_sd=(0.2,))
            for entry, e in zip(entries, (-1.0, 0.2, 1.5), strict=True)
        )
        ones, centers = np.ones(2, np.float32), np.array([[0.5, -1.0], [1.5, 0.3], [-0.7, 0.8]])
        shared = SharedLatents(ones, ones, (), np.zeros((0, 9, 2), np.float32), centers, np.eye(2))
        return TrainedModel(module, config, 0.02, entries, shared)

    return make


def start_of(trained, counts):
    """A start of these counts somewhere else in the frame."""
    start = initialise_sessions([counts], trained.config, trained.training)[0]
    return start.mapped(np.array([[1.1, 0.4], [-0.2, 0.9]]), np.array([0.6, -0.9]))


def features(module, row, deviations):
    """Features of counts that deviate so much from the mean of a session, (sample, unit)."""
    readin, n_units = module.readin, deviations.shape[1]
    counts = torch.zeros(1, 1, len(deviations), readin.mean.shape[1])
    counts[0, 0, :, :n_units] = readin.mean[row, :n_units] + torch.as_tensor(deviations).float()
    return readin(counts, torch.tensor([row]))[0, 0].detach()


@pytest.mark.parametrize("options", LINKS, ids=str)
@pytest.mark.parametrize("row", [0, 2])
def test_at_any_latents_the_new_read_in_gives_the_features_that_the_donors_gives_there(
    known, uneven, options, row
):
    """Counts of the new session that its start takes to z; counts of the donor that it has at z,
    which stands about its own centre."""
    trained, new = known(**options), uneven(4)[3]
    start, module = start_of(trained, new), new_session_model(trained, new.n_units)
    copy_readin(module, start, trained, row)
    z = np.random.default_rng(0).normal(size=(40, 2))
    ours = features(module, 0, (z - start.offset) @ np.linalg.pinv(start.projection).T)
    by_latent = slope_of_counts(trained, row).numpy(force=True)
    theirs = features(trained.module, row, (z - trained.shared_latents.centers[row]) @ by_latent.T)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    assert ours.std(0).min() > 0.01


@pytest.mark.parametrize("options", LINKS, ids=str)
def test_counts_change_with_latents_as_the_link_says_at_the_mean_count(known, options):
    """By differences of the expected counts round the point at which a unit has its mean."""
    trained = known(**options)
    for row, entry in enumerate(trained.sessions):
        mean = trained.module.readin.mean[row, : entry.n_units].double()
        weight = trained.module.likelihood.weight[row, : entry.n_units].detach().double()
        drive = {"gaussian": mean, "exp": mean.log(), "softplus": mean.expm1().log()}[
            next(iter(options.values()))
        ]
        step, expected = 1e-4, trained.module.likelihood.expected
        slopes = [
            (expected(drive + step * w) - expected(drive - step * w)) / (2 * step) for w in weight.T
        ]
        torch.testing.assert_close(
            slope_of_counts(trained, row).detach().double(),
            torch.stack(slopes, 1),
            rtol=1e-4,
            atol=1e-6,
        )


@pytest.mark.parametrize("likelihood", ["poisson", "gaussian"])
def test_readout_and_moments_are_those_of_the_start(known, uneven, likelihood):
    trained, new = known(likelihood=likelihood), uneven(4)[3]
    start, module = start_of(trained, new), new_session_model(trained, new.n_units)
    copy_readin(module, start, trained, 1)
    pairs = {
        "readin.mean": start.mean,
        "readin.sd": start.sd,
        "likelihood.weight": start.weight,
        "likelihood.bias": start.bias,
    }
    pairs |= {"likelihood.log_var": start.log_var} if likelihood == "gaussian" else {}
    for name, value in pairs.items():
        np.testing.assert_allclose(module.state_dict()[name][0], value, rtol=1e-5, err_msg=name)


def test_the_donor_is_the_session_of_the_nearest_embedding_or_the_one_that_scores_best(
    known, uneven
):
    trained, new = known(), uneven(4)[3]
    start, module = start_of(trained, new), new_session_model(trained, new.n_units)
    found = Placement(np.eye(2), np.zeros(2), np.array([1.0]), np.array([0.1]), 0.0)
    assert [
        nearest_session(trained, replace(found, embedding_mean=np.array([e])))
        for e in (-3.0, 0.0, 1.0)
    ] == [0, 1, 2]
    unknown = replace(
        trained, sessions=(replace(trained.sessions[0], embedding_mean=()), *trained.sessions[1:])
    )
    assert nearest_session(unknown, replace(found, embedding_mean=np.array([-3.0]))) == 1

    def initialised(placement, scores=()):
        given = iter(scores)
        initialise_session(trained, module, start, placement, lambda: next(given), lambda _: None)
        return [
            row
            for row in range(3)
            if torch.equal(module.readin.weight_out[0], trained.module.readin.weight_out[row])
        ]

    assert initialised(found) == [2]
    assert initialised(None, [0.1, 0.9, 0.3]) == [1]
    assert initialised(None, [0.1, -0.9, 0.3]) == [2]


def test_a_session_alone_has_the_embedding_of_its_placement_the_others_noise_and_trains_what_is_its_own(
    known, uneven
):
    trained = known()
    with torch.no_grad():
        trained.module.log_q.copy_(torch.tensor([[-3.0, -1.0], [-5.0, -2.0], [-4.0, -6.0]]))
    placement = Placement(
        np.eye(2), np.zeros(2), np.array([0.4], np.float32), np.array([0.25], np.float32), 0.0
    )
    module = new_session_model(trained, 7, placement)
    q = module.embedding(torch.zeros(1, 3, 9, 4), torch.tensor([[9, 4, 1]]))
    torch.testing.assert_close(q.mean, torch.full((1, 3, 1), 0.4))
    torch.testing.assert_close(q.sd, torch.full((1, 3, 1), 0.25))
    torch.testing.assert_close(module.log_q.detach(), torch.tensor([[-4.0, -3.0]]))
    own = {name for name, parameter in module.named_parameters() if parameter.requires_grad}
    assert own == {
        name
        for name, _ in module.named_parameters()
        if name.startswith(("readin.", "likelihood.", "log_q"))
    }
    for name, value in module.named_parameters():
        if name not in own:
            assert torch.equal(value, trained.module.state_dict()[name]), name
