"""The mean f of the dynamics, z_t = f(z_{t-1}) + noise: a formula over layers x ↦ W x + b.

The words (`model.dynamics`, the layers) and the tensors' names are those of stored models.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np

ArrayMap = Callable[[np.ndarray], np.ndarray]  # (trial, in) → (trial, out)


class NumpyFlow(ABC):
    """A family of f.

    tensors: its layers, and what their tensors' names end in: dynamics.weight_…, dynamics.bias_…;
    changed: the layers that the conditioning `linear` changes; entry: the one that z enters, where
    the conditioning `input` adds to the bias.
    """

    tensors: ClassVar[dict[str, str]]
    changed: ClassVar[tuple[str, ...]]
    entry: ClassVar[str]

    @staticmethod
    @abstractmethod
    def shapes(model: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
        """(out, in) of each layer's weight, by the sizes in the model's settings."""

    @staticmethod
    @abstractmethod
    def mean(z: np.ndarray, layers: Mapping[str, ArrayMap], model: Mapping[str, Any]) -> np.ndarray:
        """f(z) of states (trial, latent), through its layers as an embedding has changed them."""


class NumpyMLP(NumpyFlow):
    """W_o tanh(W_h tanh(W_i z + b_i) + b_h) + b_o, or with `residual` z + that."""

    tensors: ClassVar[dict[str, str]] = {"input": "in", "hidden": "hidden", "output": "out"}
    changed = ("input", "hidden")
    entry = "input"

    @staticmethod
    def shapes(model: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
        """Two hidden layers."""
        first, second = model["hidden"]
        latent = model["latent_dim"]
        return {"input": (first, latent), "hidden": (second, first), "output": (latent, second)}

    @staticmethod
    def mean(z: np.ndarray, layers: Mapping[str, ArrayMap], model: Mapping[str, Any]) -> np.ndarray:
        """ArrayMap after layer."""
        first = np.tanh(layers["input"](z))
        hidden = np.tanh(layers["hidden"](first))
        out = layers["output"](hidden)
        return z + out if model["residual"] else out


class NumpyLinear(NumpyFlow):
    """A z + b."""

    tensors: ClassVar[dict[str, str]] = {"matrix": "matrix"}
    changed = ("matrix",)
    entry = "matrix"

    @staticmethod
    def shapes(model: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
        """From latents to latents."""
        return {"matrix": (model["latent_dim"], model["latent_dim"])}

    @staticmethod
    def mean(z: np.ndarray, layers: Mapping[str, ArrayMap], model: Mapping[str, Any]) -> np.ndarray:
        """The layer."""
        return layers["matrix"](z)


NUMPY_FLOWS: dict[str, type[NumpyFlow]] = {
    "mlp": NumpyMLP,
    "linear": NumpyLinear,
}
