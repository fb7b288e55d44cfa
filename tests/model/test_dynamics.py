"""The conditioned dynamics against dense weights and a plain loop."""

import pytest
import torch

from metadyn.model.conditioning.low_rank import LowRankChange


def dense_mean(dynamics, embedding, z):
    """f(z) of one embedding (embedding,) and one state (latent,), with the changes of the weights
    written out."""
    factors = dynamics.conditioning.hyper(embedding).split(dynamics.conditioning.sizes)
    left_in, right_in, left_hidden, right_hidden = [
        factor.reshape(-1, dynamics.conditioning.rank) for factor in factors
    ]
    first = torch.tanh(
        (dynamics.flow.first.weight + left_in @ right_in.T) @ z + dynamics.flow.first.bias
    )
    second = torch.tanh(
        (dynamics.flow.hidden.weight + left_hidden @ right_hidden.T) @ first
        + dynamics.flow.hidden.bias
    )
    return dynamics.flow.output.weight @ second + dynamics.flow.output.bias


@pytest.fixture
def change():
    generator = torch.Generator().manual_seed(0)
    return LowRankChange(
        torch.randn(2, 3, 5, 2, generator=generator).double(),
        torch.randn(2, 3, 4, 2, generator=generator).double(),
    )


def test_low_rank_change_is_the_dense_product(change):
    dense = change.left @ change.right.mT
    x = torch.randn(2, 3, 6, 4).double()
    weight, bias = torch.randn(5, 4).double(), torch.randn(5).double()
    expected = torch.einsum("snoi,snti->snto", weight + dense, x) + bias
    torch.testing.assert_close(change.layer(weight, bias)(x, False), expected)
    torch.testing.assert_close(change.layer(weight, bias)(x, True), expected.tanh())


@pytest.mark.parametrize("conditioning", ["low_rank", "linear", "embedding_input", "shared"])
def test_one_embedding_a_session_is_that_of_all_its_trials(model, conditioning):
    dynamics = model(conditioning=conditioning).dynamics
    embedding, z, log_q = (
        torch.randn(2, 1, 3).double(),
        torch.randn(2, 3, 4, 2).double(),
        torch.zeros(2, 2).double(),
    )
    one, each = dynamics(embedding, log_q), dynamics(embedding.expand(2, 3, 3), log_q)
    torch.testing.assert_close(one.mean(z), each.mean(z))
    torch.testing.assert_close(one.rollout(z[:, :, 0], 3), each.rollout(z[:, :, 0], 3))
    torch.testing.assert_close(one.weight_change().mean(), each.weight_change().mean())


def test_squared_norm_is_that_of_the_dense_product(change):
    dense = change.left @ change.right.mT
    torch.testing.assert_close(change.squared_norm(), (dense**2).sum((-2, -1)))


@pytest.mark.parametrize("rank", [1, 3])
def test_transition_is_the_network_of_changed_weights(model, rank):
    dynamics = model(rank=rank).dynamics
    embedding, z = torch.randn(2, 3, 3).double(), torch.randn(2, 3, 4, 2).double()
    mean = dynamics(embedding, torch.zeros(2, 2).double()).mean(z)
    for s, n, t in torch.cartesian_prod(torch.arange(2), torch.arange(3), torch.arange(4)):
        torch.testing.assert_close(mean[s, n, t], dense_mean(dynamics, embedding[s, n], z[s, n, t]))


def test_weight_change_is_the_norm_of_both_changes(model):
    dynamics = model().dynamics
    embedding = torch.randn(2, 3, 3).double()
    transition = dynamics(embedding, torch.zeros(2, 2).double())
    norm = torch.zeros(2, 3).double()
    for change in transition.changes.values():
        norm += torch.linalg.matrix_norm(change.left @ change.right.mT) ** 2
    torch.testing.assert_close(transition.weight_change(), norm.sqrt())


def test_shared_dynamics_know_no_embedding(model):
    dynamics = model(conditioning="shared").dynamics
    z, log_q = torch.randn(2, 3, 4, 2).double(), torch.zeros(2, 2).double()
    one, other = (dynamics(torch.randn(2, 3, 3).double(), log_q) for _ in range(2))
    assert torch.equal(one.mean(z), other.mean(z))
    assert one.weight_change() == 0


def test_the_process_noise_is_the_sessions_own(model):
    log_q = torch.tensor([[-1.0, 0.5], [2.0, 1.0]]).double()
    gaussian = model().dynamics(torch.randn(2, 3, 3).double(), log_q)(
        torch.randn(2, 3, 4, 2).double()
    )
    assert gaussian.log_var.shape == gaussian.mean.shape
    assert all(
        torch.equal(gaussian.log_var[s, n, t], log_q[s])
        for s in range(2)
        for n in range(3)
        for t in range(4)
    )


def test_rollout_is_the_mean_again_and_again(model):
    transition = model().dynamics(torch.randn(2, 3, 3).double(), torch.zeros(2, 2).double())
    state = torch.randn(2, 3, 2).double()
    path = transition.rollout(state, 5)
    for step in range(5):
        state = transition.mean(state[:, :, None])[:, :, 0]
        torch.testing.assert_close(path[:, :, step], state)


def test_a_noisy_rollout_differs_from_the_mean_and_follows_its_generator(model):
    transition = model().dynamics(torch.randn(2, 3, 3).double(), torch.zeros(2, 2).double())
    state = torch.randn(2, 3, 2).double()
    one, same, other = (
        transition.rollout(state, 5, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)
    )
    assert torch.equal(one, same)
    assert not torch.allclose(one, other)


def test_linear_adapter_is_the_network_of_weights_linear_in_e(model):
    net = model(conditioning="linear").dynamics
    embedding, z = torch.randn(2, 3, 3).double(), torch.randn(2, 3, 4, 2).double()
    transition = net(embedding, torch.zeros(2, 2).double())
    norm = transition.weight_change()
    for s, n in torch.cartesian_prod(torch.arange(2), torch.arange(3)):
        change_in = sum(
            e * direction
            for e, direction in zip(
                embedding[s, n], net.conditioning.directions["first"], strict=True
            )
        )
        change_hidden = sum(
            e * direction
            for e, direction in zip(
                embedding[s, n], net.conditioning.directions["hidden"], strict=True
            )
        )
        torch.testing.assert_close(norm[s, n] ** 2, (change_in**2).sum() + (change_hidden**2).sum())
        for t in range(4):
            first = torch.tanh(
                (net.flow.first.weight + change_in) @ z[s, n, t] + net.flow.first.bias
            )
            second = torch.tanh(
                (net.flow.hidden.weight + change_hidden) @ first + net.flow.hidden.bias
            )
            torch.testing.assert_close(
                transition.mean(z)[s, n, t], net.flow.output.weight @ second + net.flow.output.bias
            )


def test_embedding_input_is_the_network_of_both_side_by_side(model):
    net = model(conditioning="embedding_input").dynamics
    embedding, z = torch.randn(2, 3, 3).double(), torch.randn(2, 3, 4, 2).double()
    mean = net(embedding, torch.zeros(2, 2).double()).mean(z)
    both = torch.cat([z, embedding[:, :, None].expand(2, 3, 4, 3)], -1)
    first = torch.tanh(
        both @ torch.cat([net.flow.first.weight, net.conditioning.weight_embedding], 1).T
        + net.flow.first.bias
    )
    second = torch.tanh(first @ net.flow.hidden.weight.T + net.flow.hidden.bias)
    torch.testing.assert_close(mean, second @ net.flow.output.weight.T + net.flow.output.bias)


def test_louder_noise_has_that_many_times_the_sd(model):
    transition = model().dynamics(torch.randn(2, 3, 3).double(), torch.randn(2, 2).double())
    z = torch.randn(2, 3, 4, 2).double()
    torch.testing.assert_close(transition.with_noise_scale(3.0)(z).sd, 3.0 * transition(z).sd)
    assert torch.equal(transition.with_noise_scale(3.0).mean(z), transition.mean(z))
