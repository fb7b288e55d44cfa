"""How an embedding e changes the layers of f: by what it adds to their outputs.

The words (`model.conditioning`) and the tensors' names are those of stored models.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np

from ndx_metadyn.rollout.flows import ArrayMap, NumpyFlow

Tensors = Mapping[str, np.ndarray]  # those of the dynamics, by their names behind "dynamics."


class NumpyConditioning(ABC):
    """embedded: False where e changes nothing, so that none need be given."""

    embedded: ClassVar[bool] = True

    @staticmethod
    @abstractmethod
    def shapes(model: Mapping[str, Any], flow: type[NumpyFlow]) -> dict[str, tuple[int, ...]]:
        """Its tensors, by their names behind "dynamics."."""

    @staticmethod
    @abstractmethod
    def added(
        embedding: np.ndarray, tensors: Tensors, model: Mapping[str, Any], flow: type[NumpyFlow]
    ) -> dict[str, ArrayMap]:
        """By layer, what embeddings (trial, embedding) add to its output for an x (trial, in)."""


class NumpyShared(NumpyConditioning):
    """Nothing changes."""

    embedded = False

    @staticmethod
    def shapes(model: Mapping[str, Any], flow: type[NumpyFlow]) -> dict[str, tuple[int, ...]]:
        """No tensors."""
        return {}

    @staticmethod
    def added(
        embedding: np.ndarray, tensors: Tensors, model: Mapping[str, Any], flow: type[NumpyFlow]
    ) -> dict[str, ArrayMap]:
        """Nothing."""
        return {}


class NumpyLowRank(NumpyConditioning):
    """U Vᵀ x, where a hypernetwork of e gives U and V of each changed layer."""

    @staticmethod
    def shapes(model: Mapping[str, Any], flow: type[NumpyFlow]) -> dict[str, tuple[int, ...]]:
        """The hypernetwork's three layers."""
        hidden = model["hyper_hidden"]
        sizes = [model["embedding_dim"], hidden, hidden, sum(factor_sizes(model, flow))]
        found: dict[str, tuple[int, ...]] = {}
        for place, (into, out) in zip((0, 2, 4), pairwise(sizes), strict=True):
            found[f"hyper.{place}.weight"] = (out, into)
            found[f"hyper.{place}.bias"] = (out,)
        return found

    @staticmethod
    def added(
        embedding: np.ndarray, tensors: Tensors, model: Mapping[str, Any], flow: type[NumpyFlow]
    ) -> dict[str, ArrayMap]:
        """U (Vᵀ x): the change of the weight is never formed."""
        x = embedding
        for place in (0, 2, 4):
            x = x @ tensors[f"hyper.{place}.weight"].T + tensors[f"hyper.{place}.bias"]
            x = np.tanh(x) if place < 4 else x
        ends = np.cumsum(factor_sizes(model, flow))[:-1]
        # (trial, out or in, rank) of U and V of each changed layer, one after the other
        factors = [flat.reshape(len(flat), -1, model["rank"]) for flat in np.split(x, ends, axis=1)]
        pairs = zip(factors[::2], factors[1::2], strict=True)
        return {
            name: low_rank(*pair) for name, pair in zip(changed(model, flow), pairs, strict=True)
        }


class NumpyLinearAdapter(NumpyConditioning):
    """(Σ_k e_k D_k) x of each layer that the flow names."""

    @staticmethod
    def shapes(model: Mapping[str, Any], flow: type[NumpyFlow]) -> dict[str, tuple[int, ...]]:
        """Directions (embedding, out, in) of each changed layer."""
        sizes = flow.shapes(model)
        return {
            f"directions_{flow.tensors[name]}": (model["embedding_dim"], *sizes[name])
            for name in flow.changed
        }

    @staticmethod
    def added(
        embedding: np.ndarray, tensors: Tensors, model: Mapping[str, Any], flow: type[NumpyFlow]
    ) -> dict[str, ArrayMap]:
        """The change of the weight is formed, and applied."""
        return {
            name: dense(
                np.einsum("te,eoi->toi", embedding, tensors[f"directions_{flow.tensors[name]}"])
            )
            for name in flow.changed
        }


class NumpyEmbeddingInput(NumpyConditioning):
    """W_e e in the layer that z enters: the embedding is joined to z."""

    @staticmethod
    def shapes(model: Mapping[str, Any], flow: type[NumpyFlow]) -> dict[str, tuple[int, ...]]:
        """The weight of the embedding."""
        return {"weight_embedding": (flow.shapes(model)[flow.entry][0], model["embedding_dim"])}

    @staticmethod
    def added(
        embedding: np.ndarray, tensors: Tensors, model: Mapping[str, Any], flow: type[NumpyFlow]
    ) -> dict[str, ArrayMap]:
        """The same for every x."""
        shift = embedding @ tensors["weight_embedding"].T
        return {flow.entry: lambda x: shift}


def changed(model: Mapping[str, Any], flow: type[NumpyFlow]) -> list[str]:
    """The layers that `low_rank` changes, in the order of the flow."""
    return [layer for layer in flow.tensors if layer in model["changed_layers"]]


def factor_sizes(model: Mapping[str, Any], flow: type[NumpyFlow]) -> list[int]:
    """Lengths of U and V of each changed layer in the hypernetwork's output."""
    shapes = flow.shapes(model)
    return [size * model["rank"] for layer in changed(model, flow) for size in shapes[layer]]


def low_rank(u: np.ndarray, v: np.ndarray) -> ArrayMap:
    """x ↦ U (Vᵀ x) of u (trial, out, rank) and v (trial, in, rank)."""
    return lambda x: np.einsum("tor,tr->to", u, np.einsum("tir,ti->tr", v, x))


def dense(change: np.ndarray) -> ArrayMap:
    """x ↦ change x of a change (trial, out, in)."""
    return lambda x: np.einsum("toi,ti->to", change, x)


NUMPY_CONDITIONINGS: dict[str, type[NumpyConditioning]] = {
    "low_rank": NumpyLowRank,
    "linear": NumpyLinearAdapter,
    "input": NumpyEmbeddingInput,
    "shared": NumpyShared,
}
