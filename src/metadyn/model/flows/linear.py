"""f(z) = A z + b, so that the model is a linear dynamical system.

A: weight of the layer `matrix`, whose eigenvalues are the modes; b: its bias.
Eqs. 9 and 12 of Vermani et al., arXiv:2410.05454, with this f in place of the perceptron of eq. 13.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from metadyn.config import ModelConfig
from metadyn.model.flows.base import AffineMap, ChangedLayer, Flow

FIRST_DECAY = 0.99  # of every mode in a bin: slow, as latents are, and stable


class LinearFlow(Flow):
    """One layer, from the state to the next."""

    changed = ("matrix",)
    entry = "matrix"

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        self.matrix = AffineMap(FIRST_DECAY * torch.eye(latent_dim), torch.zeros(latent_dim))

    @classmethod
    def from_config(cls, config: ModelConfig) -> LinearFlow:
        """It has the latent's size alone."""
        return cls(config.latent_dim)

    def forward(
        self, z: Float[Tensor, "session trial point latent"], layers: Mapping[str, ChangedLayer]
    ) -> Float[Tensor, "session trial point latent"]:
        """A z + b, one product for all points of a session."""
        return layers["matrix"](z, False)
