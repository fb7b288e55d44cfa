"""A stored model put together of a flow, a conditioning and a likelihood, its parts checked.

Float64 throughout; axes: session trial time unit latent embedding rank.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ndx_metadyn.rollout.conditionings import NUMPY_CONDITIONINGS, NumpyConditioning
from ndx_metadyn.rollout.flows import NUMPY_FLOWS, ArrayMap, NumpyFlow
from ndx_metadyn.rollout.likelihoods import NUMPY_LIKELIHOODS, NumpyLikelihood
from ndx_metadyn.rollout.settings import OF_OLDER_FILES, read_settings
from ndx_metadyn.weights import WeightsError, register_architecture

ARCHITECTURE = "MetaSSM"


@dataclass(frozen=True)
class NumpyMetaSSM:
    """The generative part of a stored model: its settings, and its tensors by name in float64."""

    model: dict[str, Any]
    sessions: tuple[dict[str, Any], ...]
    bin_width: float
    tensors: dict[str, np.ndarray]

    @property
    def flow(self) -> type[NumpyFlow]:
        """The formula of f."""
        return NUMPY_FLOWS[self.model["dynamics"]]

    @property
    def conditioning(self) -> type[NumpyConditioning]:
        """How an embedding changes the layers of f."""
        return NUMPY_CONDITIONINGS[self.model["conditioning"]]

    @property
    def likelihood(self) -> NumpyLikelihood:
        """The mean observation of a readout."""
        return NUMPY_LIKELIHOODS[self.model["likelihood"]]

    def row(self, input_key: str) -> int:
        """Position of a session among those the model knows; raises WeightsError, listing them."""
        keys = [session["key"] for session in self.sessions]
        if input_key not in keys:
            raise WeightsError(
                "the model knows no such session",
                found=repr(input_key),
                expected=f"one of {', '.join(map(repr, keys))}",
                remedy="align the model to the session, or give one of these as input_key",
            )
        return keys.index(input_key)

    def layers(self, embedding: np.ndarray) -> dict[str, ArrayMap]:
        """The layers of f, as embeddings (trial, embedding) change them."""
        tensors = self._tensors_of("dynamics.")
        added = self.conditioning.added(embedding, tensors, self.model, self.flow)
        return {
            name: changed_layer(tensors[f"weight_{end}"], tensors[f"bias_{end}"], added.get(name))
            for name, end in self.flow.tensors.items()
        }

    def step(self, z: np.ndarray, layers: Mapping[str, ArrayMap]) -> np.ndarray:
        """f(z) for z (trial, latent)."""
        return self.flow.mean(z, layers, self.model)

    def noise_sd(self, row: int) -> np.ndarray:
        """SD of the process noise of a session's forecasts, (latent,)."""
        scale = float(self.sessions[row].get("noise_scale", 1.0))
        log_var = self.tensors["log_q"][0 if self.model["shared_noise"] else row]
        return scale * np.exp(0.5 * log_var)

    def rates(self, z: np.ndarray, row: int) -> np.ndarray:
        """Firing rates [Hz] (..., unit) of latents (..., latent)."""
        n_units = self.sessions[row]["n_units"]
        weight = self.tensors["likelihood.weight"][row, :n_units]
        bias = self.tensors["likelihood.bias"][row, :n_units]
        return self.likelihood.mean(z @ weight.T + bias, self.model) / self.bin_width

    def _tensors_of(self, prefix: str) -> dict[str, np.ndarray]:
        return {
            name.removeprefix(prefix): tensor
            for name, tensor in self.tensors.items()
            if name.startswith(prefix)
        }


def changed_layer(weight: np.ndarray, bias: np.ndarray, added: ArrayMap | None) -> ArrayMap:
    """x ↦ W x + what an embedding adds + b."""
    if added is None:
        return lambda x: x @ weight.T + bias
    return lambda x: x @ weight.T + added(x) + bias


def expected_shapes(model: dict[str, Any], n_sessions: int, n_units: int) -> dict[str, tuple]:
    """Shape of every tensor of the generative part; settings that `model` lacks are those of older
    files."""
    model = OF_OLDER_FILES | model
    flow = NUMPY_FLOWS[model["dynamics"]]
    latent = model["latent_dim"]
    shapes: dict[str, tuple] = {}
    for name, (out, into) in flow.shapes(model).items():
        shapes[f"dynamics.weight_{flow.tensors[name]}"] = (out, into)
        shapes[f"dynamics.bias_{flow.tensors[name]}"] = (out,)
    shapes |= {
        "initial.mean": (latent,),
        "initial.log_var": (latent,),
        "log_q": (1 if model["shared_noise"] else n_sessions, latent),
        "likelihood.weight": (n_sessions, n_units, latent),
        "likelihood.bias": (n_sessions, n_units),
    }
    for name in NUMPY_LIKELIHOODS[model["likelihood"]].further:
        shapes[f"likelihood.{name}"] = (n_sessions, n_units)
    of_conditioning = NUMPY_CONDITIONINGS[model["conditioning"]].shapes(model, flow)
    return shapes | {f"dynamics.{name}": shape for name, shape in of_conditioning.items()}


@register_architecture(ARCHITECTURE)
def meta_ssm(config: dict, tensors: dict[str, np.ndarray]) -> NumpyMetaSSM:
    """Check settings and tensors against each other, then join them.

    Raises
    ------
    WeightsError : they do not fit; NoTwinError, one of them, where the settings name a flow, a
    conditioning or a likelihood that has no numpy form here.
    """
    model, sessions, bin_width = read_settings(config)
    shapes = expected_shapes(model, len(sessions), max(session["n_units"] for session in sessions))
    for name, shape in shapes.items():
        found = tensors[name].shape if name in tensors else "no such tensor"
        if found != shape:
            raise WeightsError(
                f"tensor {name!r} does not fit the model config", found=found, expected=shape
            )
    kept = {name: np.asarray(tensors[name], np.float64) for name in shapes}
    return NumpyMetaSSM(model, sessions, bin_width, kept)
