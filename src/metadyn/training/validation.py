"""The score that chooses the checkpoint: bits per spike of what the encoders did not see (training likelihood misleads)."""

from __future__ import annotations

from math import log

import torch

from metadyn.config import TrainingConfig
from metadyn.inference.scores import HIDDEN
from metadyn.model.elbo import embedding_of
from metadyn.model.masking import fill
from metadyn.model.meta_ssm import MetaSSM
from metadyn.training.batch import Resident, crop, hide


@torch.no_grad()
def validate(
    model: MetaSSM, trials: Resident, config: TrainingConfig, crop_bins: int, tail_bins: int, pooling: str
) -> dict[str, float]:
    """Mean log-likelihood gain over the mean rate, in bits per spike (Poisson) or per entry (Gaussian).

    `hidden_entries`: a fifth of the entries of the context; `forecast`: the last `tail_bins` bins.
    """
    generator = torch.Generator(trials.counts.device).manual_seed(config.seed)
    count = trials.n_bins.shape[1]
    trial = torch.arange(count, device=trials.counts.device) % trials.n_trials[:, None]
    batch = crop(trials, trial, crop_bins, generator)
    seen, targets = hide(batch, tail_bins=tail_bins, masking=0.0, dropout=HIDDEN, generator=generator)
    model.eval()
    features = model.features(seen)
    embedding = embedding_of(model, features, seen, pooling).mean.expand(*seen.length.shape, -1)
    transition = model.transition(embedding, seen.session)
    z = fill(model.latents(features, embedding, seen.length).mean, targets.forecast, transition)
    model.train()
    repeats = (torch.arange(count, device=trial.device) < trials.n_trials[:, None])[..., None, None]
    gain = (model.likelihood(z, seen.session).log_prob(batch.counts) - baseline_log_prob(model, batch.counts)) * repeats
    ahead = targets.forecast[..., None] * (targets.weight > 0)
    within = ~targets.forecast[..., None] * (targets.weight > 0)
    return {
        "hidden_entries": per_spike(gain, within, batch.counts * repeats, model),
        "forecast": per_spike(gain, ahead, batch.counts * repeats, model),
    }


def baseline_log_prob(model: MetaSSM, counts: torch.Tensor) -> torch.Tensor:
    """Log-likelihood under each unit's mean on the training trials: (session, trial, time, unit)."""
    mean, sd = model.readin.mean[:, None, None], model.readin.sd[:, None, None]
    if hasattr(model.likelihood, "log_var"):
        return torch.distributions.Normal(mean, sd).log_prob(counts)
    return counts * mean.clamp(min=1e-6).log() - mean - torch.lgamma(counts + 1)


def per_spike(gain: torch.Tensor, where: torch.Tensor, counts: torch.Tensor, model: MetaSSM) -> float:
    poisson = not hasattr(model.likelihood, "log_var")
    amount = (counts * where).sum() if poisson else where.sum()
    return float((gain * where).sum() / amount.clamp(min=1) / log(2))
