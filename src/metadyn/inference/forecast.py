"""Forecasts: the encoders see the context, then the dynamics go on alone (section D.2)."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from metadyn.errors import WindowError
from metadyn.inference.infer import (
    CHUNK_BINS,
    attributes,
    check_counts,
    conditioning,
    coordinates,
    embedding_variables,
    features_of,
    for_each_trial,
    joined,
    latents_given,
    session_embedding,
    trial_embeddings,
)
from metadyn.model.gaussian import Gaussian
from metadyn.model.trained import TrainedModel
from metadyn.records import TrialCounts


def mean_rates(trained: TrainedModel, row: int, z: Tensor, n_units: int) -> np.ndarray:
    """Rates [Hz] of latents (..., latent): link(C z + D) / bin width."""
    likelihood = trained.module.likelihood
    linear = (
        z @ likelihood.weight[row, :n_units].detach().T + likelihood.bias[row, :n_units].detach()
    )
    return likelihood.expected(linear).numpy(force=True) / trained.bin_width


def default_context(counts: TrialCounts) -> int:
    """A third of the median window, in bins."""
    return max(1, int(np.median(counts.windows.n_bins)) // 3)


def with_context(counts: TrialCounts, context: int) -> np.ndarray:
    """Indices (trial,) of the windows that hold the context; WindowError where none does, a warning
    where some do not."""
    enough = counts.windows.n_bins >= context
    if context < 1 or not enough.any():
        raise WindowError(
            "no window is as long as the context of the forecast",
            item=counts.session,
            found=f"windows of up to {counts.windows.n_bins.max()} bins, context {context}",
            remedy=f"--context {default_context(counts)}",
        )
    if not enough.all():
        short = f"{(~enough).sum()} of {counts.n_trials} windows of {counts.session} are shorter than the {context} bins of"
        warnings.warn(f"{short} context; they get no forecast", stacklevel=3)
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

    latent_mean, rate_mean: the mean path. With `samples`, also latent_samples and rate_samples
    (sample, trial, time, …) of q(e), q(z) and the process noise, and latent_sd, rate_sd from them.
    `embedding` (embedding,) replaces the session's. Windows shorter than the context are left out,
    with a warning that counts them (`trial` keeps the numbers of the others); WindowError where
    none is left.
    """
    row, kept = check_counts(trained, counts), with_context(counts, context)
    counts = counts.select(trials=kept)
    q_e = trial_embeddings(trained, counts, context)
    told = conditioning(trained, row, q_e) if embedding is None else exactly(embedding, q_e)
    used = for_each_trial(told, q_e)
    session = torch.tensor([row], device=used.mean.device)
    q_last = last_state(latents_given(trained, counts, used.mean, context), context)
    path = trained.module.transition(used.mean, session).rollout(q_last.mean, steps, first=context)
    variables = {
        "latent_mean": (("trial", "time", "latent"), path[0].numpy(force=True), {"units": "a.u."}),
        "rate_mean": (
            ("trial", "time", "unit"),
            mean_rates(trained, row, path[0], counts.n_units),
            {"units": "Hz"},
        ),
        "context_latent": (
            ("trial", "latent"),
            q_last.mean[0].numpy(force=True),
            {"units": "a.u."},
        ),
        **embedding_variables(
            q_e, used, session_embedding(trained, row, q_e) if embedding is None else told
        ),
    }
    if samples:
        variables |= sampled(trained, counts, told, context, steps, samples, seed, row)
    coords = coordinates(
        counts, trained.config.latent_dim, trained.config.embedding_dim, context, steps
    ) | {"trial": kept}
    dataset = xr.Dataset(variables, coords, attributes(trained, counts, "forecast"))
    return dataset.assign_attrs(context_bins=context)


def exactly(embedding: np.ndarray, like: Gaussian) -> Gaussian:
    """An embedding (embedding,) that is not in doubt: (1, 1, embedding)."""
    mean = torch.as_tensor(
        np.asarray(embedding), dtype=torch.float32, device=like.mean.device
    ).expand(1, 1, -1)
    return Gaussian(mean, torch.full_like(mean, -30.0))


def last_state(q: Gaussian, context: int) -> Gaussian:
    return Gaussian(q.mean[:, :, context - 1], q.log_var[:, :, context - 1])


@dataclass(frozen=True)
class Draws:
    """Embeddings (sample, trial or 1, embedding) and the latents at the end of the context (sample,
    trial, latent)."""

    embedding: Tensor
    state: Tensor


@torch.no_grad()
def draw(
    trained: TrainedModel,
    counts: TrialCounts,
    context: int,
    samples: int,
    *,
    seed: int,
    told: Gaussian | None = None,
) -> Draws:
    """Draws of q(e), by default the session's (or each trial's own), and of q(z) at the end of the
    context."""
    if told is None:
        row = check_counts(trained, counts)
        told = conditioning(trained, row, trial_embeddings(trained, counts, context))
    generator = torch.Generator(told.mean.device).manual_seed(seed)
    many = Gaussian(told.mean.expand(samples, -1, -1), told.log_var.expand(samples, -1, -1))
    embedding = many.sample(generator)
    seen, length = features_of(trained, counts, context)
    at_once = max(1, CHUNK_BINS // (counts.n_trials * counts.counts.shape[1]))
    states = [
        encoded_end(trained, seen, length, part.expand(-1, counts.n_trials, -1)).sample(generator)
        for part in embedding.split(at_once)
    ]
    return Draws(embedding, torch.cat(states))


def encoded_end(
    trained: TrainedModel, features: Tensor, length: Tensor, embedding: Tensor
) -> Gaussian:
    """q(z) of the last bin of the features (1, trial, time, feature), for embeddings (sample,
    trial, embedding)."""
    trials_at_once = max(1, CHUNK_BINS // (len(embedding) * features.shape[2]))
    parts = []
    for trials in torch.arange(features.shape[1], device=features.device).split(trials_at_once):
        seen = features[:, trials].expand(len(embedding), -1, -1, -1)
        q = trained.module.latents(
            seen, embedding[:, trials], length[:, trials].expand(len(embedding), -1)
        )
        parts.append(last_state(q, features.shape[2]))
    return joined(parts)


@torch.no_grad()
def noisy_paths(
    trained: TrainedModel, row: int, drawn: Draws, steps: int, noise_scale: float, seed: int
) -> Tensor:
    """The bins after the context of each draw, the SD of the process noise times a factor: (sample,
    trial, time, latent)."""
    session = torch.tensor([row], device=drawn.state.device).expand(len(drawn.state))
    transition = trained.module.transition(drawn.embedding, session).with_noise_scale(noise_scale)
    return transition.rollout(
        drawn.state, steps, torch.Generator(drawn.state.device).manual_seed(seed)
    )


def sampled(
    trained,
    counts: TrialCounts,
    told: Gaussian,
    context: int,
    steps: int,
    samples: int,
    seed: int,
    row: int,
) -> dict:
    """Noisy paths from sampled states and embeddings, of each trial or one of all (1, trial or 1,
    embedding)."""
    drawn = draw(trained, counts, context, samples, seed=seed, told=told)
    latents = noisy_paths(trained, row, drawn, steps, trained.sessions[row].noise_scale, seed + 1)
    rate, rate_sd = sampled_rates(trained, row, latents, counts.n_units)
    dims = ("sample", "trial", "time")
    return {
        "latent_samples": ((*dims, "latent"), latents.numpy(force=True), {"units": "a.u."}),
        "rate_samples": ((*dims, "unit"), rate, {"units": "Hz"}),
        "latent_sd": (
            ("trial", "time", "latent"),
            latents.std(0).numpy(force=True),
            {"units": "a.u."},
        ),
        "rate_sd": (("trial", "time", "unit"), rate_sd, {"units": "Hz"}),
    }


def sampled_rates(
    trained: TrainedModel, row: int, latents: Tensor, n_units: int
) -> tuple[np.ndarray, np.ndarray]:
    """Rates [Hz] of latents (sample, trial, time, latent) and their SD over samples, (trial, time,
    unit); trial after trial, as rates of all samples are large: what is made on the way stays small
    and in cache."""
    samples, trials, time = latents.shape[:3]
    rate = np.empty((samples, trials, time, n_units), np.float32)
    sd = np.empty(rate.shape[1:], np.float32)
    for trial in range(trials):
        own = mean_rates(trained, row, latents[:, trial], n_units)
        rate[:, trial], sd[trial] = own, own.std(0, ddof=1)
    return rate, sd
