"""`embedding_input`: Δb = W_e e of the layer that z enters, which so gets [z, e]; ΔW = 0.

W_e (out, embedding): the weight of the embedding, which is joined to z.
Section 5 of Vermani et al., arXiv:2410.05454: the baseline "Embedding-Input" (CAVIA, DYNAMO).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import linear

from metadyn.config import ModelConfig
from metadyn.model.conditioning.base import Change, Conditioning
from metadyn.model.flows.base import ChangedLayer, Flow
from metadyn.model.ops.layer import activated


@dataclass(frozen=True)
class Shift(Change):
    """Δb, the same at every point; no weight is changed."""

    value: Float[Tensor, "session trial out"]

    def layer(self, weight: Float[Tensor, "out in"], bias: Float[Tensor, " out"]) -> ChangedLayer:
        """x ↦ W x + b + Δb."""
        shift = self.value[..., None, :]  # (session, trial, 1, out)
        return lambda x, tanh: activated(linear(x, weight, bias) + shift, tanh)

    def squared_norm(self) -> None:
        """No weight is changed."""


class EmbeddingInput(Conditioning):
    """W_e, for the layer `name` of shape (out, in)."""

    def __init__(self, name: str, shape: tuple[int, int], embedding_dim: int) -> None:
        super().__init__()
        self.name = name
        out, into = shape
        self.weight_embedding = nn.Parameter(
            torch.randn(out, embedding_dim) / (into + embedding_dim) ** 0.5
        )

    @classmethod
    def from_config(cls, config: ModelConfig, flow: Flow) -> EmbeddingInput:
        """The layer is the one that z enters."""
        return cls(flow.entry, flow.shapes[flow.entry], config.embedding_dim)

    def forward(self, embedding: Float[Tensor, "session trial embedding"]) -> dict[str, Change]:
        """W_e e, (session, trial, out)."""
        return {self.name: Shift(embedding @ self.weight_embedding.mT)}
