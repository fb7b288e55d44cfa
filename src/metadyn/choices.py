"""The kinds of model that a configuration can choose by name, one line for each.

A new kind is a file in the room that the line points to, and the line. `tests/model/test_laws.py`
then tests it with every other kind.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

FLOWS: dict[str, tuple[str, tuple[str, ...]]] = {
    # f of z_t = f(z_{t-1}) + noise: its class, and its layers, which an embedding may change
    "mlp": ("metadyn.model.flows.mlp:MLP", ("first", "hidden", "output")),
    "linear": ("metadyn.model.flows.linear:LinearFlow", ("matrix",)),
}
CONDITIONINGS: dict[str, str] = {
    # how an embedding changes the layers of a flow
    "low_rank": "metadyn.model.conditioning.low_rank:LowRank",
    "linear": "metadyn.model.conditioning.linear:LinearAdapter",
    "embedding_input": "metadyn.model.conditioning.embedding_input:EmbeddingInput",
    "shared": "metadyn.model.conditioning.shared:Shared",
}
LIKELIHOODS: dict[tuple[str, str], str] = {
    # how observations follow from the latents, by distribution and link ("": it has but one)
    ("poisson", "exp"): "metadyn.model.likelihoods.poisson:PoissonLikelihood",
    ("poisson", "softplus"): "metadyn.model.likelihoods.softplus_poisson:SoftplusPoissonLikelihood",
    ("gaussian", ""): "metadyn.model.likelihoods.gaussian:GaussianLikelihood",
}


def likelihood_at(likelihood: str, link: str) -> str:
    """The line of a likelihood; one that has but one link has it whatever `link` is.

    >>> likelihood_at("gaussian", "exp")
    'metadyn.model.likelihoods.gaussian:GaussianLikelihood'
    """
    return LIKELIHOODS.get((likelihood, link)) or LIKELIHOODS[(likelihood, "")]


def class_at(place: str) -> Any:
    """The class that `module:name` points to; its module, which needs torch, is imported here."""
    module, name = place.split(":")
    return getattr(import_module(module), name)
