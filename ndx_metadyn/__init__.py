"""Latent dynamics, dynamical embeddings and the model that inferred them, as NWB types. Reading
needs no torch."""

from pathlib import Path

from pynwb import load_namespaces

NAMESPACE = "ndx-metadyn"


def _namespace_path() -> Path:
    """The schema beside this file (an installed wheel), else in the checkout's spec/ (its one
    home)."""
    here = Path(__file__).resolve().parent
    places = [
        folder / f"{NAMESPACE}.namespace.yaml" for folder in (here / "spec", here.parent / "spec")
    ]
    for place in places:
        if place.is_file():
            return place
    raise FileNotFoundError(
        f"the schema of {NAMESPACE} is missing; looked at {places[0]} and {places[1]}; install the package again"
    )


load_namespaces(str(_namespace_path()))

from ndx_metadyn.containers import (  # noqa: E402  the classes register with the namespace loaded above
    ESTIMATES,
    DynamicalEmbeddingsTable,
    FiringRateSeries,
    LatentDynamics,
    LatentDynamicsModel,
    LatentSeries,
    TrainingAssetsTable,
)
from ndx_metadyn.rollout import rollout  # noqa: E402
from ndx_metadyn.weights import WeightsError  # noqa: E402

__all__ = [
    "ESTIMATES",
    "NAMESPACE",
    "DynamicalEmbeddingsTable",
    "FiringRateSeries",
    "LatentDynamics",
    "LatentDynamicsModel",
    "LatentSeries",
    "TrainingAssetsTable",
    "WeightsError",
    "rollout",
]
