"""The six types, hand-written because the generated classes accept what the schema cannot forbid.

A generated class takes 1-D latents, an SD of another length, a negative SD and any word for
`estimate`; these raise at construction (and only warn on reading, so that a faulty file still
opens). Axes: time latent unit embedding.
"""

from ndx_metadyn.containers.model import LatentDynamicsModel
from ndx_metadyn.containers.run import LatentDynamics
from ndx_metadyn.containers.series import ESTIMATES, EstimateSeries, FiringRateSeries, LatentSeries
from ndx_metadyn.containers.tables import SCOPES, DynamicalEmbeddingsTable, TrainingAssetsTable

__all__ = [
    "ESTIMATES",
    "SCOPES",
    "DynamicalEmbeddingsTable",
    "EstimateSeries",
    "FiringRateSeries",
    "LatentDynamics",
    "LatentDynamicsModel",
    "LatentSeries",
    "TrainingAssetsTable",
]
