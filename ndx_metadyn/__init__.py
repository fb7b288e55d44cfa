"""Latent dynamics, dynamical embeddings and the model that inferred them, as NWB types.

Importing this package registers the types with pynwb; reading needs no torch.
"""

from pathlib import Path

from pynwb import load_namespaces

NAMESPACE = "ndx-metadyn"


def _namespace_path() -> Path:
    """The schema beside this file (an installed wheel), else in the checkout's spec/, its one home.

    Raises FileNotFoundError where it is at neither place.
    """
    here = Path(__file__).resolve().parent
    folders = (here / "spec", here.parent / "spec")
    places = [folder / f"{NAMESPACE}.namespace.yaml" for folder in folders]
    for place in places:
        if place.is_file():
            return place
    raise FileNotFoundError(
        f"the schema of {NAMESPACE} is missing; looked at {places[0]} and {places[1]}; "
        "install the package again"
    )


load_namespaces(str(_namespace_path()))

# One line a neurodata type. The classes register with the namespace loaded above (hence E402).
from ndx_metadyn.containers.model import LatentDynamicsModel as LatentDynamicsModel  # noqa: E402
from ndx_metadyn.containers.registry import TYPES  # noqa: E402
from ndx_metadyn.containers.series import ESTIMATES  # noqa: E402
from ndx_metadyn.containers.series import FiringRateSeries as FiringRateSeries  # noqa: E402
from ndx_metadyn.containers.series import LatentSeries as LatentSeries  # noqa: E402
from ndx_metadyn.containers.tables import (  # noqa: E402
    DynamicalEmbeddingsTable as DynamicalEmbeddingsTable,
)
from ndx_metadyn.containers.tables import TrainingAssetsTable as TrainingAssetsTable  # noqa: E402

# isort: split
# After the types above: its fields are those that they name
from ndx_metadyn.containers.run import LatentDynamics as LatentDynamics  # noqa: E402

# isort: split
from ndx_metadyn.rollout import rollout  # noqa: E402
from ndx_metadyn.weights import WeightsError  # noqa: E402

__all__ = ["ESTIMATES", "NAMESPACE", "TYPES", "WeightsError", "rollout", *TYPES]
