"""e ↦ changes of some layers of the dynamics, by name: x ↦ W x + b becomes x ↦ (W + ΔW) x + b + Δb.

e: embedding of a session or trial; ΔW, Δb: what it changes in a layer of the flow.
Section 3.1 (eqs. 11-14) and the baselines of section 5 of Vermani et al., arXiv:2410.05454.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from metadyn.config import ModelConfig
from metadyn.model.flows.base import ChangedLayer, Flow
from metadyn.model.ops.layer import layer


def layer_of(weight: Float[Tensor, "item in out"], bias: Float[Tensor, " out"]) -> ChangedLayer:
    """The layer of weights of all sessions' trials, one after the other, or of one for all."""

    def apply(x: Tensor, tanh: bool) -> Tensor:
        items = x.flatten(0, 1)  # (session * trial, point, in)
        out = layer(items, weight, bias[None], tanh)
        return out.unflatten(0, x.shape[:2])  # (session, trial, point, out)

    return apply


class Change(ABC):
    """The change of one layer by the embeddings of (session, trial), or of (session, 1)."""

    @abstractmethod
    def layer(self, weight: Float[Tensor, "out in"], bias: Float[Tensor, " out"]) -> ChangedLayer:
        """The changed layer of this weight and bias."""

    @abstractmethod
    def squared_norm(self) -> Float[Tensor, "session trial"] | None:
        """‖ΔW‖²_F; None where no weight is changed."""


class Unchanged(Change):
    """A layer that is the same for all embeddings."""

    def layer(self, weight: Float[Tensor, "out in"], bias: Float[Tensor, " out"]) -> ChangedLayer:
        """x ↦ W x + b."""
        return layer_of(weight.mT[None], bias)

    def squared_norm(self) -> None:
        """No weight is changed."""


@dataclass(frozen=True)
class DenseChange(Change):
    """ΔW written out."""

    change: Float[Tensor, "session trial out in"]

    def layer(self, weight: Float[Tensor, "out in"], bias: Float[Tensor, " out"]) -> ChangedLayer:
        """x ↦ (W + ΔW) x + b."""
        changed = (weight + self.change).flatten(0, 1)  # (session * trial, out, in)
        return layer_of(changed.mT, bias)

    def squared_norm(self) -> Float[Tensor, "session trial"]:
        """‖ΔW‖²_F."""
        return (self.change**2).sum((-2, -1))


class Conditioning(nn.Module, ABC):
    """e ↦ changes of layers by name; layers without a change are the same for all embeddings.

    embedded: False where no layer ever changes, so that nobody needs to infer an embedding.
    """

    embedded: ClassVar[bool] = True

    @classmethod
    @abstractmethod
    def from_config(cls, config: ModelConfig, flow: Flow) -> Conditioning:
        """The conditioning of this flow's layers, its first weights from torch's generator."""

    @abstractmethod
    def forward(self, embedding: Float[Tensor, "session trial embedding"]) -> Mapping[str, Change]:
        """Changes by the layers' names; of one embedding a session, (session, 1, embedding), those
        of all its trials."""
