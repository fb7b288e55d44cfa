"""`shared`: ΔW = 0 and Δb = 0; all sessions have the same dynamics.

No symbols of its own.
Section 5 of Vermani et al., arXiv:2410.05454: the baseline "Shared Dynamics".
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from metadyn.config import ModelConfig
from metadyn.model.conditioning.base import Change, Conditioning
from metadyn.model.flows.base import Flow


class Shared(Conditioning):
    """No layer changes, whatever the embedding."""

    embedded = False

    @classmethod
    def from_config(cls, config: ModelConfig, flow: Flow) -> Shared:
        """It has no weights."""
        return cls()

    def forward(self, embedding: Float[Tensor, "session trial embedding"]) -> dict[str, Change]:
        """No changes."""
        return {}
