"""Smoothed latents, rates and embeddings of a session that a model knows: each bin given all counts
of its window (Vermani et al., arXiv:2410.05454, section 3.2)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import xarray as xr
from jaxtyping import Float

from metadyn.estimates import SMOOTHED, pack_estimates
from metadyn.inference.encoding import check_counts, latent_posterior, trial_embeddings
from metadyn.inference.packing import (
    attributes,
    coordinates,
    embedding_variables,
    observation_variables,
    within_windows,
)
from metadyn.inference.rates import posterior_rates
from metadyn.inference.session_embedding import (
    conditioning_embedding,
    expand_to_trials,
    session_embedding,
)
from metadyn.model.gaussian import Gaussian
from metadyn.model.trained import TrainedModel
from metadyn.records import TrialCounts


class Posterior(NamedTuple):
    """q(e | y) of each trial alone and q(e) that conditions its dynamics, both (1, trial,
    embedding); q(z | y, e) given the mean of the latter, (1, trial, time, latent)."""

    by_trial: Gaussian
    used: Gaussian
    latents: Gaussian


def posterior(trained: TrainedModel, counts: TrialCounts) -> Posterior:
    """q(e) and q(z) given all counts; refuses as `check_counts` does."""
    session_row = check_counts(trained, counts)
    by_trial = trial_embeddings(trained, counts)
    used = expand_to_trials(conditioning_embedding(trained, session_row, by_trial), by_trial)
    return Posterior(by_trial, used, latent_posterior(trained, counts, used.mean))


def smoothed_latents(
    trained: TrainedModel, counts: TrialCounts
) -> Float[np.ndarray, "trial time latent"]:
    """The latent_mean of `infer` alone: NaN behind a window's end."""
    q_z = posterior(trained, counts).latents
    return within_windows(counts, q_z.mean[0].numpy(force=True))


def infer(trained: TrainedModel, counts: TrialCounts) -> xr.Dataset:
    """Smoothed latents, rates [Hz] and embeddings of one session.

    Returns
    -------
    A Dataset as `metadyn.estimates` describes it: latent_mean, latent_sd (trial, time, latent),
    rate_mean, rate_sd (trial, time, unit) [Hz], NaN behind a window's end, and embeddings (trial,
    embedding), (embedding,). `observed` (trial, time) and, where units differ, `unit_observed`
    (trial, time, unit) say where something was observed: elsewhere the model interpolates latents
    and rates, and infers a unit's rates from the others.

    Raises
    ------
    ModelFileError : the model does not know the session.
    DataError : the model was made for other units, spikes or bins of it.
    """
    session_row = check_counts(trained, counts)
    by_trial, used, q_z = posterior(trained, counts)
    rate_mean, rate_sd = posterior_rates(trained, session_row, q_z, counts.n_units)
    samples = {  # (trial, time, …)
        "latent_mean": q_z.mean[0].numpy(force=True),
        "latent_sd": q_z.sd[0].numpy(force=True),
        "rate_mean": rate_mean,
        "rate_sd": rate_sd,
    }
    variables = {name: within_windows(counts, values) for name, values in samples.items()}
    session = session_embedding(trained, session_row, by_trial)  # (1, 1, embedding)
    variables |= embedding_variables(by_trial, used, session)
    variables |= observation_variables(counts)
    return pack_estimates(
        variables, coordinates(trained, counts), attributes(trained, counts, SMOOTHED)
    )
