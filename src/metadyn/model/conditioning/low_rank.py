"""`low_rank`: ΔW = U Vᵀ of each changed layer, where (U, V, …) = h(e); Δb = 0.

h: the hypernetwork, a multilayer perceptron; U (out, rank) and V (in, rank): factors of the change.
Eqs. 13 and 14 of Vermani et al., arXiv:2410.05454.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import linear

from metadyn.config import ModelConfig
from metadyn.model.conditioning.base import Change, Conditioning, DenseChange
from metadyn.model.flows.base import ChangedLayer, Flow
from metadyn.model.ops.layer import activated


@dataclass(frozen=True)
class LowRankChange(Change):
    """ΔW = left rightᵀ: written out where a session's trials share it, else never formed."""

    left: Float[Tensor, "session trial out rank"]
    right: Float[Tensor, "session trial in rank"]

    def layer(self, weight: Float[Tensor, "out in"], bias: Float[Tensor, " out"]) -> ChangedLayer:
        """x ↦ W x + U (Vᵀ x) + b."""
        if self.left.shape[1] == 1:
            return DenseChange(self.left @ self.right.mT).layer(weight, bias)
        return lambda x, tanh: activated(
            linear(x, weight, bias) + x @ self.right @ self.left.mT,  # (session, trial, point, out)
            tanh,
        )

    def squared_norm(self) -> Float[Tensor, "session trial"]:
        """‖U Vᵀ‖²_F = Σ (UᵀU ∘ VᵀV)."""
        left = self.left.mT @ self.left  # (session, trial, rank, rank)
        right = self.right.mT @ self.right
        return (left * right).sum((-2, -1))


class LowRank(Conditioning):
    """A hypernetwork that gives the factors of each changed layer.

    shapes : (out, in) of each of them by name.
    sizes : lengths of U and V of each, one after the other, in the hypernetwork's output.
    """

    def __init__(
        self, shapes: Mapping[str, tuple[int, int]], embedding_dim: int, rank: int, hidden: int
    ) -> None:
        super().__init__()
        self.layers = tuple(shapes)
        self.rank = rank
        self.sizes = [size * rank for out_and_in in shapes.values() for size in out_and_in]
        self.hyper = nn.Sequential(
            nn.Linear(embedding_dim, hidden),
            nn.Tanh(),
            nn.Linear(hidden, hidden),
            nn.Tanh(),
            nn.Linear(hidden, sum(self.sizes)),
        )

    @classmethod
    def from_config(cls, config: ModelConfig, flow: Flow) -> LowRank:
        """The layers are those that the configuration names, or the flow's own choice."""
        changed = config.changed_layers or flow.changed
        shapes = {name: shape for name, shape in flow.shapes.items() if name in changed}
        return cls(shapes, config.embedding_dim, config.rank, config.hyper_hidden)

    def forward(self, embedding: Float[Tensor, "session trial embedding"]) -> dict[str, Change]:
        """U Vᵀ of each changed layer."""
        parts = self.hyper(embedding).split(self.sizes, -1)  # U, V, U, V, …, each flat
        factors = [part.unflatten(-1, (-1, self.rank)) for part in parts]  # (…, out or in, rank)
        pairs = zip(factors[::2], factors[1::2], strict=True)
        return {
            name: LowRankChange(left, right)
            for name, (left, right) in zip(self.layers, pairs, strict=True)
        }
