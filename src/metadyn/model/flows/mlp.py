"""f(z) = W_o tanh(W_h tanh(W_i z + b_i) + b_h) + b_o, or with `residual` z + that.

W_i, W_h, W_o: weights of the layers `first`, `hidden` and `output`; b_i, b_h, b_o: their biases.
Eq. 13 and appendix D.3 of Vermani et al., arXiv:2410.05454.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from metadyn.config import ModelConfig
from metadyn.model.flows.base import AffineMap, ChangedLayer, Flow


class MLP(Flow):
    """A multilayer perceptron of two hidden layers."""

    changed = ("first", "hidden")
    entry = "first"

    def __init__(self, latent_dim: int, hidden: tuple[int, int], *, residual: bool = False) -> None:
        super().__init__()
        first, second = hidden
        self.residual = residual
        # Weights of variance 1 / inputs keep the size of what goes through them.
        self.first = AffineMap(
            torch.randn(first, latent_dim) / latent_dim**0.5,
            torch.randn(first) * 0.5,
        )
        self.hidden = AffineMap(torch.randn(second, first) / first**0.5, torch.zeros(second))
        self.output = AffineMap(
            torch.randn(latent_dim, second) / second**0.5,
            torch.zeros(latent_dim),
        )

    @classmethod
    def from_config(cls, config: ModelConfig) -> MLP:
        """Sizes and `residual` are the configuration's."""
        return cls(config.latent_dim, config.hidden, residual=config.residual)

    def forward(
        self, z: Float[Tensor, "session trial point latent"], layers: Mapping[str, ChangedLayer]
    ) -> Float[Tensor, "session trial point latent"]:
        """Each layer's tanh is part of its kernel (`ops.layer`)."""
        first = layers["first"](z, True)  # (session, trial, point, hidden)
        hidden = layers["hidden"](first, True)
        mean = layers["output"](hidden, False)
        return z + mean if self.residual else mean
