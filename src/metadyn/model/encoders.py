"""q(e | y) = N(m(h_T), diag s(h_T)) and q(z_t | y, e) = N(m'(h→_t, h←_t), diag s'(h→_t, h←_t)).

y: observations, here their features; e: embedding; z_t: latent state; h: states of a GRU over the
bins up to T, or of two in both directions, over features and e; m, s: affine maps.
Section 3.2 of Vermani et al., arXiv:2410.05454, eqs. 17 and 18, and appendix D.3.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from metadyn.model.gaussian import Gaussian
from metadyn.model.ops.gru import GRU
from metadyn.model.ops.layer import layer


class EmbeddingEncoder(nn.Module):
    """q(e | y): the state of a GRU at the last bin gives mean and log variance.

    gain: factor of the mean's first weights. Embeddings that start close together move apart along
    the differences of sessions; far apart from the start, they keep a random order
    (docs/decisions/embedding-takeoff.md). log_var: first log variance.
    """

    def __init__(
        self,
        features: int,
        hidden: int,
        embedding_dim: int,
        gain: float = 0.3,
        log_var: float = -5.0,
    ) -> None:
        """Random weights, from torch's global generator."""
        super().__init__()
        self.gru = GRU(features, 0, hidden)
        self.head = nn.Linear(hidden, 2 * embedding_dim)
        # The first rows of the head give the mean, the others the log variance
        zero_mean = torch.zeros(embedding_dim)
        with torch.no_grad():
            self.head.weight[:embedding_dim] *= gain
            self.head.weight[embedding_dim:] *= 0.1
            self.head.bias.copy_(torch.cat([zero_mean, torch.full((embedding_dim,), log_var)]))

    def forward(
        self, features: Float[Tensor, "sequence time feature"], length: Int[Tensor, " sequence"]
    ) -> Gaussian:
        """q(e), (sequence, embedding), of the first `length` bins of each sequence."""
        no_inputs = features.new_zeros(len(features), 0)
        states = self.gru(features, no_inputs, length)  # (sequence, time, hidden)
        last = states[torch.arange(len(length), device=length.device), length - 1]
        return Gaussian(*self.head(last).chunk(2, -1))


class KnownEmbedding(nn.Module):
    """N(mean, diag exp(log_var)) in place of the encoder, where q(e) is known already."""

    mean: Tensor
    log_var: Tensor

    def __init__(
        self, mean: Float[Tensor, " embedding"], log_var: Float[Tensor, " embedding"]
    ) -> None:
        """The embedding is not trained."""
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("log_var", log_var)

    def forward(
        self, features: Float[Tensor, "sequence time feature"], length: Int[Tensor, " sequence"]
    ) -> Gaussian:
        """The same q(e) for each sequence, (sequence, embedding)."""
        return Gaussian(self.mean.expand(len(length), -1), self.log_var.expand(len(length), -1))


class LatentEncoder(nn.Module):
    """q(z_t | y, e): GRUs in both directions over features and embedding; factorised over bins.

    The backward GRU starts at each sequence's last bin, so bins behind `length` are not seen.
    log_var: first log variance.
    """

    def __init__(
        self, features: int, embedding_dim: int, hidden: int, latent_dim: int, log_var: float = -4.0
    ) -> None:
        """Random weights, from torch's global generator."""
        super().__init__()
        self.forward_gru = GRU(features, embedding_dim, hidden)
        self.backward_gru = GRU(features, embedding_dim, hidden)
        self.head = nn.Linear(2 * hidden, 2 * latent_dim)
        with torch.no_grad():
            self.head.weight[latent_dim:] *= 0.1
            self.head.bias[latent_dim:] = log_var

    def forward(
        self,
        features: Float[Tensor, "sequence time feature"],
        embedding: Float[Tensor, "sequence embedding"],
        length: Int[Tensor, " sequence"],
    ) -> Gaussian:
        """q(z), (sequence, time, latent)."""
        ahead = self.forward_gru(features, embedding, length)
        behind = self.backward_gru(features, embedding, length, reverse=True)
        # Two products in place of one, which would need the states of both directions side by side
        of_ahead, of_behind = self.head.weight.chunk(2, 1)
        bias = self.head.bias[None]
        both = layer(ahead, of_ahead.mT[None], bias)
        both = both + layer(behind, of_behind.mT[None], torch.zeros_like(bias))
        return Gaussian(*both.chunk(2, -1))
