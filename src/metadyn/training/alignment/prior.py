"""A Gaussian prior of a new session's features, learned from the training sessions.

Features are f = [e, s(C), z̄] (feature,): embedding e, shape s of the readout C, mean latent z̄.
s(C) are log-diagonal and scaled lower entries of the Cholesky factor L of CᵀC / units, the same
however C is rotated among units. f ~ N(μ, Σ), the moments over sessions and one pseudo-session with
a broad spread, as a conjugate prior would add (Murphy, Machine Learning, 2012, section 4.6).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from metadyn.model.trained import TrainedModel

SINGULAR = 1e-4  # variance of a readout that is taken for none: of latents that no unit shows
# Spread of the pseudo-session: of readout shapes, mean latents (in SDs of latents), baselines D
SHAPE_SD = 0.3
OFFSET_SD = 0.3
BASELINE_SD = 0.01


@dataclass(frozen=True)
class Prior:
    """Joint Gaussian of a session's features, and Gaussian of a unit's baseline D."""

    mean: Float[np.ndarray, " feature"]
    covariance: Float[np.ndarray, "feature feature"]
    embedding_dim: int
    latent_dim: int
    baseline_mean: float
    baseline_var: float

    def usual_factor(self) -> Float[np.ndarray, "latent latent"]:
        """The Cholesky factor of the mean readout shape."""
        shape = self.mean[self.embedding_dim : -self.latent_dim]
        return factor_of(shape, self.latent_dim)


def nan_where_failed(
    factor: Float[Tensor, "*batch row column"], failed: Int[Tensor, "*batch"]
) -> Float[Tensor, "*batch row column"]:
    """A factorisation, NaN where it failed: a singular candidate does not end the search."""
    return factor.masked_fill(failed[..., None, None] > 0, torch.nan)


def readout_shape(weight: Float[Tensor, "*batch unit latent"]) -> Float[Tensor, "*batch shape"]:
    """s(C): log-diagonal of L and its lower entries in units of their columns' diagonal."""
    n_latents = weight.shape[-1]
    gram = weight.mT @ weight / weight.shape[-2]
    gram = gram + SINGULAR * torch.eye(n_latents, device=gram.device)
    factor = nan_where_failed(*torch.linalg.cholesky_ex(gram))
    diagonal = factor.diagonal(dim1=-2, dim2=-1)
    row, column = torch.tril_indices(n_latents, n_latents, -1)
    lower = factor[..., row, column] / diagonal[..., column]
    return torch.cat([diagonal.log(), lower], -1)  # latent (latent + 1) / 2 numbers


def factor_of(shape: Float[np.ndarray, " shape"], dim: int) -> Float[np.ndarray, "latent latent"]:
    """The Cholesky factor L of a `readout_shape`."""
    diagonal = np.exp(shape[:dim])
    factor = np.diag(diagonal)
    row, column = np.tril_indices(dim, -1)
    factor[row, column] = shape[dim:] * diagonal[column]
    return factor


def learn_prior(trained: TrainedModel, n_trials: int) -> Prior:
    """The prior of a session with that many trials.

    The fewer trials, the more its mean latent may differ from that of all it could have done.
    """
    shared, dim = trained.shared_latents, trained.config.latent_dim
    width = trained.config.embedding_dim if trained.module.dynamics.embedded else 0
    shapes, baselines = readouts_of(trained)
    # Sessions that were aligned later have no known mean latent, and stand behind
    known = trained.sessions[: len(shared.centers)]
    embeddings = np.array([entry.embedding_mean for entry in known]).reshape(len(known), -1)
    features = np.concatenate(
        [embeddings[:, :width], shapes[: len(known)], shared.centers], 1
    )  # (session, feature)
    pseudo_mean = np.concatenate([np.zeros(width), shapes.mean(0), np.zeros(dim)])
    shape_sd = np.full(shapes.shape[1], SHAPE_SD)
    pseudo_sd = np.concatenate([np.ones(width), shape_sd, OFFSET_SD * shared.latent_sd])
    mean, covariance = with_pseudo_session(features, pseudo_mean, pseudo_sd)
    covariance[-dim:, -dim:] += shared.trial_spread / n_trials
    return Prior(
        mean=mean,
        covariance=covariance,
        embedding_dim=width,
        latent_dim=dim,
        baseline_mean=float(baselines.mean()),
        baseline_var=float(baselines.var() + BASELINE_SD**2),
    )


def readouts_of(
    trained: TrainedModel,
) -> tuple[Float[np.ndarray, "session shape"], Float[np.ndarray, " all_units"]]:
    """The readout shape of each training session, and the baselines D of all their units."""
    likelihood = trained.module.likelihood
    shapes, baselines = [], []
    for row, entry in enumerate(trained.sessions):
        size = entry.n_units  # the rest is padding
        shapes.append(readout_shape(likelihood.weight[row, :size].detach().cpu()).numpy())
        baselines.append(likelihood.bias[row, :size].numpy(force=True))
    return np.array(shapes), np.concatenate(baselines)


def with_pseudo_session(
    features: Float[np.ndarray, "session feature"],
    mean: Float[np.ndarray, " feature"],
    sd: Float[np.ndarray, " feature"],
) -> tuple[Float[np.ndarray, " feature"], Float[np.ndarray, "feature feature"]]:
    """Mean and covariance over sessions, as if one more had been seen at `mean` with spread `sd`.

    Correlations are shrunk towards zero, the more the fewer sessions there are.
    """
    sessions, size = features.shape
    average = (features.sum(0) + mean) / (sessions + 1)
    deviation = features - average
    scatter = deviation.T @ deviation
    trust = sessions / (sessions + size)
    scatter = trust * scatter + (1 - trust) * np.diag(np.diag(scatter))
    return average, (scatter + np.diag(sd**2)) / (sessions + 1)
