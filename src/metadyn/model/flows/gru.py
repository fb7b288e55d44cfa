"""f(z) = s ∘ z + (1 − s) ∘ n, where (r, s) = σ(W z + b) and n = tanh(r ∘ (U z + c)).

r, s: reset and update gates, of the layer `gates` (W, b); n: the candidate state, within ±1,
of the layer `candidate` (U, c). A gated recurrent unit without input whose state is the latent
(Cho et al., arXiv:1406.1078), as f of eq. 12 of Vermani et al., arXiv:2410.05454.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from metadyn.config import ModelConfig
from metadyn.model.flows.base import AffineMap, ChangedLayer, Flow


class GRUCell(Flow):
    """The two layers of a gated recurrent unit."""

    changed = ("gates", "candidate")
    entry = "candidate"

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        scale = latent_dim**-0.5  # keeps the size of what goes through a weight
        self.gates = AffineMap(
            scale * torch.randn(2 * latent_dim, latent_dim),
            torch.zeros(2 * latent_dim),
        )
        self.candidate = AffineMap(
            scale * torch.randn(latent_dim, latent_dim),
            torch.zeros(latent_dim),
        )

    @classmethod
    def from_config(cls, config: ModelConfig) -> GRUCell:
        """It has the latent's size alone."""
        return cls(config.latent_dim)

    def forward(
        self, z: Float[Tensor, "session trial point latent"], layers: Mapping[str, ChangedLayer]
    ) -> Float[Tensor, "session trial point latent"]:
        """Gates and candidate of every point; the state goes on by the update gate."""
        gates = layers["gates"](z, False).sigmoid()  # (session, trial, point, 2 * latent)
        reset, update = gates.chunk(2, -1)
        candidate = (reset * layers["candidate"](z, False)).tanh()
        return update * z + (1 - update) * candidate
