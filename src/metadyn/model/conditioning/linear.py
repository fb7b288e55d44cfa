"""`linear`: ΔW = Σ_k e_k D_k of each changed layer; Δb = 0.

D_k: the direction (out, in) in which the k-th number of the embedding moves the weight.
Section 5 of Vermani et al., arXiv:2410.05454: the baseline "Linear Adapter" (CoDA).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from metadyn.config import ModelConfig
from metadyn.model.conditioning.base import Change, Conditioning, DenseChange
from metadyn.model.flows.base import Flow

FIRST_SD = 0.02  # of the directions at first: from large ones training diverges


class LinearAdapter(Conditioning):
    """Directions (embedding, out, in) of each changed layer, by name."""

    def __init__(self, shapes: Mapping[str, tuple[int, int]], embedding_dim: int) -> None:
        super().__init__()
        self.directions = nn.ParameterDict(
            {name: FIRST_SD * torch.randn(embedding_dim, *shape) for name, shape in shapes.items()}
        )

    @classmethod
    def from_config(cls, config: ModelConfig, flow: Flow) -> LinearAdapter:
        """The layers are the flow's own choice."""
        return cls({name: flow.shapes[name] for name in flow.changed}, config.embedding_dim)

    def forward(self, embedding: Float[Tensor, "session trial embedding"]) -> dict[str, Change]:
        """Σ_k e_k D_k of each changed layer, (session, trial, out, in)."""
        return {
            name: DenseChange(torch.einsum("sne,eoi->snoi", embedding, each))
            for name, each in self.directions.items()
        }
