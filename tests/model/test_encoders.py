"""The encoders against GRUs on unpadded sequences; what stands behind a window's end is not
seen."""

import torch
from torch import nn

from metadyn.model.build import build_model
from metadyn.model.ops.gru import reverse_within

LENGTH = torch.tensor([4, 7, 1])


def plain(gru) -> nn.GRU:
    """torch's GRU with these weights."""
    other = nn.GRU(gru.input_size, gru.hidden_size, batch_first=True).double()
    other.load_state_dict(gru.state_dict())
    return other


def test_reverse_within_turns_only_the_first_bins():
    x = torch.arange(21.0).reshape(3, 7, 1)
    turned = reverse_within(x, LENGTH)
    for row, length in enumerate(LENGTH):
        assert torch.equal(turned[row, :length], x[row, :length].flip(0))


def test_embedding_encoder_is_a_gru_on_each_unpadded_sequence(model):
    encoder = model().embedding_encoder
    features = torch.randn(3, 7, 6).double()
    q = encoder(features, LENGTH)
    for row, length in enumerate(LENGTH):
        _, last = plain(encoder.gru)(features[row : row + 1, :length])
        mean, log_var = encoder.head(last[0, 0]).chunk(2)
        torch.testing.assert_close(q.mean[row], mean)
        torch.testing.assert_close(q.log_var[row], log_var)


def test_latent_encoder_is_a_gru_in_each_direction_on_each_unpadded_sequence(model):
    encoder = model().latent_encoder
    features, embedding = torch.randn(3, 7, 6).double(), torch.randn(3, 3).double()
    q = encoder(features, embedding, LENGTH)
    for row, length in enumerate(LENGTH):
        x = torch.cat([features[row, :length], embedding[row].expand(length, 3)], 1)[None]
        ahead, behind = (
            plain(encoder.forward_gru)(x)[0],
            plain(encoder.backward_gru)(x.flip(1))[0].flip(1),
        )
        mean, log_var = encoder.head(torch.cat([ahead, behind], -1))[0].chunk(2, -1)
        torch.testing.assert_close(q.mean[row, :length], mean)
        torch.testing.assert_close(q.log_var[row, :length], log_var)


def test_encoders_do_not_see_bins_behind_the_end(model):
    module = model()
    features, embedding = torch.randn(3, 7, 6).double(), torch.randn(3, 3).double()
    other = torch.where(torch.arange(7)[:, None] < LENGTH[:, None, None], features, 1e6)
    one, two = (module.embedding_encoder(x, LENGTH) for x in (features, other))
    assert torch.equal(one.mean, two.mean)
    one, two = (module.latent_encoder(x, embedding, LENGTH) for x in (features, other))
    for row, length in enumerate(LENGTH):
        assert torch.equal(one.mean[row, :length], two.mean[row, :length])
        assert torch.equal(one.log_var[row, :length], two.log_var[row, :length])


def test_every_bin_within_a_window_is_seen(model):
    """The other side of the claim: a change at any seen bin reaches the first and the last
    latent."""
    encoder = model().latent_encoder
    features, embedding = torch.randn(1, 7, 6).double().requires_grad_(), torch.randn(1, 3).double()
    q = encoder(features, embedding, torch.tensor([7]))
    for t in (0, 6):
        (gradient,) = torch.autograd.grad(q.mean[0, t].sum(), features, retain_graph=True)
        assert (gradient.abs().sum(-1) > 0).all()


def test_a_new_models_posteriors_are_as_wide_as_asked_for_whatever_it_sees_and_its_embeddings_close_together(
    config,
):
    """torch draws weights of a layer from ±1 / √inputs; means of embeddings are .3 of that, log
    variances a tenth."""
    module = build_model(
        config(embedding_hidden=40, latent_hidden=50, embedding_dim=20),
        [3, 5],
        posterior_log_var=-2.5,
    )
    embedding, latents = module.embedding_encoder.head, module.latent_encoder.head
    bounds = {
        0.3 / 40**0.5: embedding.weight[:20],
        0.1 / 40**0.5: embedding.weight[20:],
        0.1 / 100**0.5: latents.weight[2:],
    }
    for bound, weight in bounds.items():
        assert 0.97 * bound < weight.abs().max() <= bound
    torch.testing.assert_close(embedding.bias, torch.tensor([0.0] * 20 + [-5.0] * 20))
    torch.testing.assert_close(latents.bias[2:], torch.tensor([-2.5, -2.5]))


def test_a_new_linear_adapter_hardly_changes_with_the_embedding(config):
    module = build_model(config(conditioning="linear", hidden=(30, 40)), [3, 5])
    for directions in (
        module.dynamics.conditioning.directions["first"],
        module.dynamics.conditioning.directions["hidden"],
    ):
        assert abs(directions.std() / 0.02 - 1) < 0.25
