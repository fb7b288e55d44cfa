"""The two encoders, shared by all sessions: q(e | y) (eq. 17) and q(z | y, e) (eq. 18)."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from metadyn.model.gaussian import Gaussian


def reverse_within(x: Float[Tensor, "sequence time feature"], length: Int[Tensor, " sequence"]) -> Tensor:
    """Each sequence's first `length` bins in reverse order; what stands behind them is of no meaning."""
    time = torch.arange(x.shape[1], device=x.device)
    index = (length[:, None] - 1 - time) % x.shape[1]
    return x.gather(1, index[..., None].expand_as(x))


class EmbeddingEncoder(nn.Module):
    """q(e | y): a GRU over the features; its state at the last bin gives mean and log variance (App. D.3).

    `gain` multiplies the mean's first weights: embeddings that start close together move apart along what sets the
    sessions apart; far apart from the start, they keep a random order (docs/decisions/embedding-takeoff.md).
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
        self.gru = nn.GRU(features, hidden, batch_first=True)
        self.head = nn.Linear(hidden, 2 * embedding_dim)
        with torch.no_grad():
            self.head.weight[:embedding_dim] *= gain
            self.head.weight[embedding_dim:] *= 0.1
            self.head.bias.copy_(torch.cat([torch.zeros(embedding_dim), torch.full((embedding_dim,), log_var)]))

    def forward(self, features: Float[Tensor, "sequence time feature"], length: Int[Tensor, " sequence"]) -> Gaussian:
        states, _ = self.gru(features)
        last = states[torch.arange(len(length), device=length.device), length - 1]
        return Gaussian(*self.head(last).chunk(2, -1))


class LatentEncoder(nn.Module):
    """q(z_t | y, e): GRUs in both directions over features and embedding; factorised over bins (eq. 18).

    The backward GRU starts at each sequence's last bin, so bins behind `length` are not seen.
    """

    def __init__(self, features: int, embedding_dim: int, hidden: int, latent_dim: int, log_var: float = -4.0):
        super().__init__()
        self.forward_gru = nn.GRU(features + embedding_dim, hidden, batch_first=True)
        self.backward_gru = nn.GRU(features + embedding_dim, hidden, batch_first=True)
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
        inputs = torch.cat([features, embedding[:, None].expand(-1, features.shape[1], -1)], -1)
        ahead, _ = self.forward_gru(inputs)
        behind, _ = self.backward_gru(reverse_within(inputs, length))
        states = torch.cat([ahead, reverse_within(behind, length)], -1)
        return Gaussian(*self.head(states).chunk(2, -1))
