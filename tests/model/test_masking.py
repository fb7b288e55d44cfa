"""Filling by depth against a chain over bins."""

import pytest
import torch

from metadyn.model.masking import fill_masked, mask_depth


def random_mask(share, seed, tail):
    """(2, 3, 12) with the last `tail` bins masked and the first kept."""
    masked = torch.rand(2, 3, 12, generator=torch.Generator().manual_seed(seed)) < share
    masked[:, :, 12 - tail :] = True
    masked[:, :, 0] = False
    return masked


def chain(z, masked, transition, noise=None):
    path = [z[:, :, :1]]
    for t in range(1, z.shape[2]):
        ahead = transition.mean(path[-1])
        if noise is not None:
            ahead = ahead + (transition.log_q / 2).exp() * noise[:, :, t : t + 1]
        path.append(torch.where(masked[:, :, t, None, None], ahead, z[:, :, t : t + 1]))
    return torch.cat(path, 2)


def test_mask_depth_counts_from_the_last_kept_bin():
    masked = torch.tensor([[[0, 1, 1, 0, 0, 1, 0, 1, 1, 1]]]).bool()
    assert mask_depth(masked).tolist() == [[[0, 1, 2, 0, 0, 1, 0, 1, 2, 3]]]


@pytest.mark.parametrize(("share", "tail"), [(0.0, 0), (0.2, 0), (0.2, 4), (0.7, 2), (1.0, 0)])
@pytest.mark.parametrize(("seed", "embeddings"), [(0, 3), (1, 3), (1, 1)])
def test_fill_is_a_chain_over_bins(model, share, tail, seed, embeddings):
    masked = random_mask(share, seed, tail)
    transition = model().dynamics(
        torch.randn(2, embeddings, 3).double(), torch.zeros(2, 2).double()
    )
    z = torch.randn(2, 3, 12, 2).double()
    torch.testing.assert_close(fill_masked(z, masked, transition), chain(z, masked, transition))


@pytest.mark.parametrize("embeddings", [1, 3])
@pytest.mark.parametrize(("share", "tail"), [(0.0, 0), (0.3, 4), (1.0, 0)])
@pytest.mark.parametrize("more", [0, 2, 100])
def test_fill_with_room_for_the_longest_run_is_a_chain_too(model, embeddings, share, tail, more):
    masked, noise = random_mask(share, 0, tail), torch.randn(2, 3, 12, 2).double()
    longest = int(mask_depth(masked).max()) + more
    transition = model().dynamics(
        torch.randn(2, embeddings, 3).double(), torch.zeros(2, 2).double()
    )
    z = torch.randn(2, 3, 12, 2).double()
    torch.testing.assert_close(
        fill_masked(z, masked, transition, noise, longest), chain(z, masked, transition, noise)
    )


@pytest.mark.parametrize("embeddings", [1, 3])
def test_fill_with_noise_is_a_chain_of_samples(model, embeddings):
    masked, log_q = random_mask(0.5, 0, 3), torch.tensor([[-1.0, 0.3], [0.5, -2.0]]).double()
    transition = model().dynamics(torch.randn(2, embeddings, 3).double(), log_q)
    z, noise = torch.randn(2, 2, 3, 12, 2).double()
    filled = fill_masked(z, masked, transition, noise)
    torch.testing.assert_close(filled, chain(z, masked, transition, noise))
    assert not torch.isclose(filled, fill_masked(z, masked, transition))[masked].any()


@pytest.mark.parametrize("embeddings", [1, 3])
def test_gradients_through_fill_are_those_of_the_chain(model, embeddings):
    masked, dynamics = random_mask(0.4, 0, 3), model().dynamics
    embedding, weight = torch.randn(2, embeddings, 3).double(), torch.randn(2, 3, 12, 2).double()
    start = torch.randn(2, 3, 12, 2).double()
    gradients = []
    for road in (fill_masked, chain):
        z = start.clone().requires_grad_()
        total = (road(z, masked, dynamics(embedding, torch.zeros(2, 2).double())) * weight).sum()
        gradients.append(torch.autograd.grad(total, [z, *dynamics.parameters()]))
    torch.testing.assert_close(*gradients)


def test_kept_bins_stay_as_they_are(model):
    masked = random_mask(0.5, 0, 2)
    transition = model().dynamics(torch.randn(2, 3, 3).double(), torch.zeros(2, 2).double())
    z = torch.randn(2, 3, 12, 2).double()
    assert torch.equal(fill_masked(z, masked, transition)[~masked], z[~masked])
