"""The mean of the dynamics, E z_t = f(z_{t-1}): a formula over named affine maps x ↦ W x + b.

f: flow; W (out, in) and b (out,): weight and bias of a map, whose name an embedding may change.
Section 3.1 of Vermani et al., arXiv:2410.05454, where f is a multilayer perceptron (eq. 13).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from metadyn.config import ModelConfig

# x (session, trial, point, in) → W x + b (session, trial, point, out), or tanh of it
ChangedLayer = Callable[[Tensor, bool], Tensor]


class AffineMap(nn.Module):
    """Weight W (out, in) and bias b (out,) of a map that all sessions share."""

    def __init__(self, weight: Float[Tensor, "out in"], bias: Float[Tensor, " out"]) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(bias)


class Flow(nn.Module, ABC):
    """f: its attributes that are `AffineMap`s are its layers, by their names.

    changed : the layers that an embedding changes where the configuration names none.
    entry : the layer that z enters, whose input an embedding may be joined to.
    """

    changed: ClassVar[tuple[str, ...]]
    entry: ClassVar[str]

    @classmethod
    @abstractmethod
    def from_config(cls, config: ModelConfig) -> Flow:
        """The flow with its first weights, from torch's global generator."""

    @abstractmethod
    def forward(
        self, z: Float[Tensor, "session trial point latent"], layers: Mapping[str, ChangedLayer]
    ) -> Float[Tensor, "session trial point latent"]:
        """f(z), computed by `layers`: this flow's own, as an embedding has changed them.

        A flow that inputs drive takes them as a third argument u (session, trial, point, input).
        """

    @property
    def maps(self) -> dict[str, AffineMap]:
        """The layers by their names, in the order in which they were made."""
        # torch keeps children in the order of their assignment.
        children = self.named_children()
        return {name: child for name, child in children if isinstance(child, AffineMap)}

    @property
    def shapes(self) -> dict[str, tuple[int, int]]:
        """(out, in) of each layer's weight."""
        return {
            name: (each.weight.shape[0], each.weight.shape[1]) for name, each in self.maps.items()
        }
