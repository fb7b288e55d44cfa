"""The two encoders, shared by all sessions: q(e | y) (eq. 17) and q(z | y, e) (eq. 18)."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from metadyn.model.gaussian import Gaussian
from metadyn.model.ops.gru import GRU
from metadyn.model.ops.layer import layer


class EmbeddingEncoder(nn.Module):
    """q(e | y): a GRU over the features; its state at the last bin gives mean and log variance
    (App. D.3).

    `gain` multiplies the mean's first weights: embeddings that start close together move apart
    along what sets the sessions apart; far apart from the start, they keep a random order
    (docs/decisions/embedding-takeoff.md).
    """

    def __init__(
        self,
        features: int,
        hidden: int,
        embedding_dim: int,
        gain: float = 0.3,
        log_var: float = -5.0,
    ):
        super().__init__()
        self.gru = GRU(features, 0, hidden)
        self.head = nn.Linear(hidden, 2 * embedding_dim)
        with torch.no_grad():
            self.head.weight[:embedding_dim] *= gain
            self.head.weight[embedding_dim:] *= 0.1
            self.head.bias.copy_(
                torch.cat([torch.zeros(embedding_dim), torch.full((embedding_dim,), log_var)])
            )

    def forward(
        self, features: Float[Tensor, "sequence time feature"], length: Int[Tensor, " sequence"]
    ) -> Gaussian:
        states = self.gru(features, features.new_zeros(len(features), 0), length)
        last = states[torch.arange(len(length), device=length.device), length - 1]
        return Gaussian(*self.head(last).chunk(2, -1))


class KnownEmbedding(nn.Module):
    """In place of the encoder where a session's q(e) is known already: N(mean, diag exp(log_var)),
    (embedding,) each."""

    def __init__(self, mean: Tensor, log_var: Tensor):
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("log_var", log_var)

    def forward(
        self, features: Float[Tensor, "sequence time feature"], length: Int[Tensor, " sequence"]
    ) -> Gaussian:
        return Gaussian(self.mean.expand(len(length), -1), self.log_var.expand(len(length), -1))


class LatentEncoder(nn.Module):
    """q(z_t | y, e): GRUs in both directions over features and embedding; factorised over bins (eq.
    18).

    The backward GRU starts at each sequence's last bin, so bins behind `length` are not seen.
    """

    def __init__(
        self, features: int, embedding_dim: int, hidden: int, latent_dim: int, log_var: float = -4.0
    ):
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
        ahead = self.forward_gru(features, embedding, length)
        behind = self.backward_gru(features, embedding, length, reverse=True)
        weights = self.head.weight.chunk(
            2, 1
        )  # in two products, without the states of both directions side by side
        bias = self.head.bias[None]
        both = layer(ahead, weights[0].mT[None], bias) + layer(
            behind, weights[1].mT[None], torch.zeros_like(bias)
        )
        return Gaussian(*both.chunk(2, -1))
