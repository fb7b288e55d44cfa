"""The score that chooses the checkpoint: bits per spike of what the encoders did not see (training likelihood misleads)."""

from __future__ import annotations

from math import log

import torch
from torch import Tensor
from torch.distributions import Distribution

from metadyn.config import TrainingConfig
from metadyn.inference.scores import HIDDEN
from metadyn.model.elbo import embedding_of
from metadyn.model.likelihood import PoissonCounts
from metadyn.model.masking import fill
from metadyn.model.meta_ssm import MetaSSM
from metadyn.training.batch import Resident, crop, hide

TINY = 1e-12


@torch.no_grad()
def validate(
    model: MetaSSM, trials: Resident, config: TrainingConfig, crop_bins: int, tails: tuple[int, int], pooling: str
) -> dict[str, float]:
    """Log-likelihood above the mean rate, in bits per spike (Poisson) or per entry (Gaussian).

    `hidden_entries`: a fifth of the entries of the context before the shortest of `tails`; `forecast`: the longest of them.
    """
    looks = {tail: look(model, trials, config, crop_bins, tail, pooling) for tail in set(tails)}
    return {"hidden_entries": looks[tails[0]]["hidden_entries"], "forecast": looks[tails[1]]["forecast"]}


def look(model: MetaSSM, trials: Resident, config: TrainingConfig, crop_bins: int, tail: int, pooling: str) -> dict[str, float]:
    """Both scores where the last `tail` bins are not seen; every look has the same crops and hidden entries."""
    generator = torch.Generator(trials.counts.device).manual_seed(config.seed)
    count = trials.n_bins.shape[1]
    trial = torch.arange(count, device=trials.counts.device) % trials.n_trials[:, None]
    batch = crop(trials, trial, crop_bins, generator)
    seen, targets = hide(batch, tail_bins=tail, masking=0.0, dropout=HIDDEN, generator=generator)
    model.eval()
    features = model.features(seen)
    embedding = embedding_of(model, features, seen, pooling).mean
    transition = model.transition(embedding, seen.session)
    z = fill(model.latents(features, embedding, seen.length).mean, targets.forecast, transition)
    model.train()
    once = (torch.arange(count, device=trial.device) < trials.n_trials[:, None])[..., None, None]
    ahead, weight = targets.forecast[..., None], (targets.weight > 0) & once
    score = bits_per_entry if hasattr(model.likelihood, "log_var") else bits_per_spike
    mean = model.readin.mean[:, None, None]
    return {
        name: score(batch.counts, model.likelihood(z, seen.session), mean, weight & where)
        for name, where in (("hidden_entries", ~ahead), ("forecast", ahead))
    }


def bits_per_spike(counts: Tensor, told: Distribution, mean: Tensor, where: Tensor) -> float:
    """Poisson log-likelihood above each unit's mean rate on the training trials, of the entries `where`."""
    gain = told.log_prob(counts) - PoissonCounts(mean.clamp(min=1e-6).log()).log_prob(counts)
    return float((gain * where).sum() / (counts * where).sum().clamp(min=1) / log(2))


def bits_per_entry(counts: Tensor, told: Distribution, mean: Tensor, where: Tensor) -> float:
    """Gaussian log-likelihood above each unit's mean, each with its most likely variance, which takes R out of the score.

    R is the noise round known latents. Of forecasts it punishes what process noise has done, the more the better R is.
    """
    number = where.sum((1, 2)).float()
    residual, total = (((counts - each) ** 2 * where).sum((1, 2)) for each in (told.mean, mean))
    bits = 0.5 * (total.clamp(min=TINY) / residual.clamp(min=TINY)).log2()
    return float((number * bits).sum() / number.sum().clamp(min=1))
