"""TrialLatents of each bin from its counts, given a readout: regularised weighted least squares.

z = (Cᵀ V C + λ I)⁻¹ Cᵀ (y − ȳ): C (unit, latent) the readout, V (unit, unit) diagonal, the variance
of each unit's noise per squared unit of C z, λ the ridge (the prior z ~ N(0, λ⁻¹ I)).
For counts, exp(C z + D) linearised about the mean rate has V = diag(ȳ): one Fisher-scoring step.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Num

from metadyn.data.smoothing import slices_of_trials
from metadyn.training.initial.moments import PerUnit, Values
from metadyn.training.initial.session_init import Weights

RIDGE = 0.1  # on latents of variance one that follow from counts

TrialLatents = Float[np.ndarray, "trial time latent"]


def rate_projection(weight: Weights, mean: PerUnit) -> Float[np.ndarray, "latent unit"]:
    """The matrix of the least squares above for counts, where every unit is observed."""
    information = weight.T @ (mean[:, None] * weight)  # (latent, latent)
    return np.linalg.solve(information + RIDGE * np.eye(len(information)), weight.T)


def projected(
    values: Values,
    mean: PerUnit,
    projection: Float[np.ndarray, "latent unit"],
    observed: Bool[np.ndarray, "trial time"],
) -> TrialLatents:
    """projection (values − mean); zero in bins in which nothing was observed."""
    parts = []
    for trials in slices_of_trials(values):
        latents = (values[trials] - mean) @ projection.T * observed[trials][..., None]
        parts.append(latents.astype(np.float32))
    return np.concatenate(parts)


def least_squares(
    values: Num[np.ndarray, "trial time unit"],
    mean: PerUnit,
    weight: Weights,
    variance: PerUnit,
    ridge: float,
    entries: Bool[np.ndarray, "trial time unit"],
) -> TrialLatents:
    """The least squares above from the units that were observed in each bin."""
    # What each unit adds to the information matrix of a bin: (unit, latent · latent)
    products = variance[:, None, None] * weight[:, :, None] * weight[:, None]
    products = products.reshape(len(weight), -1)
    prior = ridge * np.eye(weight.shape[1])
    parts = []
    for trials in slices_of_trials(values):
        known = entries[trials].astype(np.float64)
        right = ((values[trials] - mean) * known) @ weight  # (trial, time, latent)
        information = (known @ products).reshape(*right.shape, -1) + prior
        latents = np.linalg.solve(information, right[..., None])[..., 0]
        parts.append(latents.astype(np.float32))
    return np.concatenate(parts)
