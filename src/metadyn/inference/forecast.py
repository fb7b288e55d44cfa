"""Forecasts: the encoders see the context, then the dynamics go on alone.

Equation: z_K ~ q(z_K | y_1…y_K, e), then z_{t+1} = f(z_t, e) + ε_t with ε_t ~ N(0, Q).
Symbols: y counts, K bins of the context, e dynamical embedding, z latent state, f dynamics, Q
process noise.
Reference: Vermani et al., arXiv:2410.05454, section D.2.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float, Int
from torch import Tensor

from metadyn.errors import WindowError
from metadyn.estimates import FORECAST, pack_estimates
from metadyn.inference.encoding import (
    CHUNK_BINS,
    check_counts,
    concatenate_trials,
    latent_posterior,
    readin_features,
    trial_embeddings,
)
from metadyn.inference.packing import attributes, coordinates, embedding_variables
from metadyn.inference.rates import rates_of_latents, rates_of_samples
from metadyn.inference.session_embedding import (
    conditioning_embedding,
    expand_to_trials,
    session_embedding,
)
from metadyn.model.gaussian import Gaussian
from metadyn.model.trained import TrainedModel
from metadyn.records import TrialCounts

CERTAIN = -30.0  # log variance of an embedding that is given: an SD of 3e-7


def default_context(counts: TrialCounts) -> int:
    """A third of the median window, in bins."""
    return max(1, int(np.median(counts.windows.n_bins)) // 3)


def with_context(counts: TrialCounts, context: int) -> Int[np.ndarray, " trial"]:
    """Indices of the windows that hold the context; a warning where some do not.

    Raises
    ------
    WindowError : none does.
    """
    enough = counts.windows.n_bins >= context
    if context < 1 or not enough.any():
        raise WindowError(
            "no window is as long as the context of the forecast",
            item=counts.session,
            found=f"windows of up to {counts.windows.n_bins.max()} bins, context {context}",
            options={"context": default_context(counts)},
        )
    if not enough.all():
        warnings.warn(
            f"{(~enough).sum()} of {counts.n_trials} windows of {counts.session} are shorter than "
            f"the {context} bins of context; they get no forecast",
            stacklevel=3,
        )
    return np.flatnonzero(enough)


@torch.no_grad()
def forecast(
    trained: TrainedModel,
    counts: TrialCounts,
    *,
    context: int,
    steps: int,
    samples: int = 0,
    seed: int = 0,
    embedding: np.ndarray | None = None,
) -> xr.Dataset:
    """The `steps` bins after the first `context` bins of each window, of which alone the encoders
    see anything.

    Parameters
    ----------
    context, steps : in bins.
    samples : how many paths to sample, of q(e), q(z) and the process noise, by `seed`; 0 for none.
    embedding : (embedding,), in place of the session's.

    Returns
    -------
    A Dataset as `metadyn.estimates` describes it, `time` from the start of the window: latent_mean
    (trial, time, latent) and rate_mean (trial, time, unit) [Hz] are the path without noise from the
    mean state, context_latent (trial, latent). With `samples` also latent_samples, rate_samples
    (sample, trial, time, …) and their SDs latent_sd, rate_sd. Windows shorter than the context are
    left out, with a warning that counts them; `trial` keeps the numbers of the others.

    Raises
    ------
    WindowError : no window holds the context.
    ModelFileError, DataError : as of `metadyn.inference.infer.infer`.
    """
    session_row = check_counts(trained, counts)
    kept = with_context(counts, context)
    counts = counts.select(trials=kept)
    by_trial = trial_embeddings(trained, counts, context)
    session = session_embedding(trained, session_row, by_trial)
    conditioning = conditioning_embedding(trained, session_row, by_trial)
    if embedding is not None:
        session = conditioning = certain_embedding(embedding, by_trial)
    used = expand_to_trials(conditioning, by_trial)  # (1, trial, embedding)
    q_z = latent_posterior(trained, counts, used.mean, context)  # (1, trial, time, latent)
    state = state_at_end(q_z, context)  # (1, trial, latent)
    path = mean_path(trained, session_row, used.mean, state.mean, context, steps)[0]
    variables = {
        "latent_mean": path.numpy(force=True),
        "rate_mean": rates_of_latents(trained, session_row, path, counts.n_units),
        "context_latent": state.mean[0].numpy(force=True),
        **embedding_variables(by_trial, used, session),
    }
    if samples:
        drawn = sample_context(
            trained, counts, context, samples, seed=seed, conditioning=conditioning
        )
        variables |= sampled_variables(trained, session_row, drawn, steps, seed, counts.n_units)
    return pack_estimates(
        variables,
        coordinates(trained, counts, context, steps) | {"trial": kept},
        attributes(trained, counts, FORECAST) | {"context_bins": context},
    )


def certain_embedding(embedding: np.ndarray, like: Gaussian) -> Gaussian:
    """q(e) of an embedding (embedding,) that is known: (1, 1, embedding)."""
    values = torch.as_tensor(np.asarray(embedding), dtype=torch.float32, device=like.mean.device)
    mean = values.expand(1, 1, -1)
    return Gaussian(mean, torch.full_like(mean, CERTAIN))


def state_at_end(q: Gaussian, context: int) -> Gaussian:
    """q(z) of the last bin of the context, (…, latent), from that of all bins, (session, trial,
    time, latent)."""
    return Gaussian(q.mean[:, :, context - 1], q.log_var[:, :, context - 1])


def mean_path(
    trained: TrainedModel,
    session_row: int,
    embedding: Float[Tensor, "1 trial embedding"],
    state: Float[Tensor, "1 trial latent"],
    context: int,
    steps: int,
) -> Float[Tensor, "1 trial time latent"]:
    """The bins after the state at the end of the context, without process noise."""
    session = torch.tensor([session_row], device=state.device)
    return trained.module.transition(embedding, session).rollout(state, steps, first=context)


@dataclass(frozen=True)
class ContextSamples:
    """Sampled embeddings, one for all trials or one for each, and the sampled latents at the end of
    a context of so many bins."""

    embedding: Float[Tensor, "sample trial_or_1 embedding"]
    state: Float[Tensor, "sample trial latent"]
    context: int


@torch.no_grad()
def sample_context(
    trained: TrainedModel,
    counts: TrialCounts,
    context: int,
    samples: int,
    *,
    seed: int,
    conditioning: Gaussian | None = None,
) -> ContextSamples:
    """Samples of q(e), by default the session's (or each trial's own), and of q(z) at the end of
    the context given each.

    `conditioning`: another q(e), (1, trial or 1, embedding). All windows hold the context.
    """
    if conditioning is None:
        session_row = check_counts(trained, counts)
        by_trial = trial_embeddings(trained, counts, context)
        conditioning = conditioning_embedding(trained, session_row, by_trial)
    generator = torch.Generator(conditioning.mean.device).manual_seed(seed)
    # (1, trial or 1, embedding) to (sample, trial or 1, embedding)
    mean = conditioning.mean.expand(samples, -1, -1)
    log_var = conditioning.log_var.expand(samples, -1, -1)
    embedding = Gaussian(mean, log_var).sample(generator)
    features, length = readin_features(trained, counts, context)
    at_once = max(1, CHUNK_BINS // (counts.n_trials * counts.counts.shape[1]))
    states = []
    for some in embedding.split(at_once):  # (some samples, trial or 1, embedding)
        for_each_trial = some.expand(-1, counts.n_trials, -1)
        q = context_state(trained, features, length, for_each_trial)  # (some, trial, latent)
        states.append(q.sample(generator))
    return ContextSamples(embedding, torch.cat(states), context)


def context_state(
    trained: TrainedModel,
    features: Float[Tensor, "1 trial time feature"],
    length: Int[Tensor, "1 trial"],
    embedding: Float[Tensor, "sample trial embedding"],
) -> Gaussian:
    """q(z) of the last bin of the features given each embedding: (sample, trial, latent)."""
    n_samples, n_bins = len(embedding), features.shape[2]
    at_once = max(1, CHUNK_BINS // (n_samples * n_bins))
    parts = []
    for trials in torch.arange(features.shape[1], device=features.device).split(at_once):
        # the encoder takes samples as sessions: (sample, trials, time, feature)
        q = trained.module.latents(
            features[:, trials].expand(n_samples, -1, -1, -1),
            embedding[:, trials],
            length[:, trials].expand(n_samples, -1),
        )
        parts.append(state_at_end(q, n_bins))
    return concatenate_trials(parts)


@torch.no_grad()
def noisy_paths(
    trained: TrainedModel,
    session_row: int,
    start: ContextSamples,
    steps: int,
    noise_scale: float,
    seed: int,
) -> Float[Tensor, "sample trial time latent"]:
    """The bins after each sampled state, the SD of the process noise times a factor."""
    device = start.state.device
    # the transition takes samples as sessions, all of the same row
    session = torch.tensor([session_row], device=device).expand(len(start.state))
    transition = trained.module.transition(start.embedding, session).with_noise_scale(noise_scale)
    generator = torch.Generator(device).manual_seed(seed)
    return transition.rollout(start.state, steps, generator, first=start.context)


def sampled_variables(
    trained: TrainedModel,
    session_row: int,
    start: ContextSamples,
    steps: int,
    seed: int,
    n_units: int,
) -> dict[str, np.ndarray]:
    """Sampled latents and rates after the context and their SDs, with the session's noise; `seed`
    is the one that the context was sampled with."""
    noise_scale = trained.sessions[session_row].noise_scale
    # the next seed: the numbers of `seed` are in the sampled embeddings and states
    latents = noisy_paths(trained, session_row, start, steps, noise_scale, seed + 1)
    rates, rate_sd = rates_of_samples(trained, session_row, latents, n_units)
    return {
        "latent_samples": latents.numpy(force=True),
        "rate_samples": rates,
        "latent_sd": latents.std(0).numpy(force=True),
        "rate_sd": rate_sd,
    }
