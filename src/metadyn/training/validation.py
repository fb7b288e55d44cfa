"""The score that chooses the checkpoint: bits per spike of what the encoders did not see (training
likelihood misleads)."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from metadyn.config import TrainingConfig
from metadyn.inference.scores import HIDDEN
from metadyn.model.elbo import Targets, embedding_of
from metadyn.model.masking import fill_masked
from metadyn.model.meta_ssm import MetaSSM, Observations
from metadyn.model.ops.chunks import entry_chunks
from metadyn.model.ops.random import SessionGenerator
from metadyn.training.execution.batch import DeviceTrials, crop, hide, restrict_to
from metadyn.training.execution.host_trials import HostTrials


@torch.no_grad()
def validate(
    model: MetaSSM,
    trials: DeviceTrials | HostTrials,
    config: TrainingConfig,
    crop_bins: int,
    tails: tuple[int, int],
    pooling: str,
) -> dict[str, float]:
    """Log-likelihood above the mean rate, in bits per spike (Poisson) or per entry (Gaussian).

    `hidden_entries`: a fifth of the entries of the context before the shortest of `tails`;
    `forecast`: the longest of them.
    """
    looks = {tail: look(model, trials, config, crop_bins, tail, pooling) for tail in set(tails)}
    return {
        "hidden_entries": looks[tails[0]]["hidden_entries"],
        "forecast": looks[tails[1]]["forecast"],
    }


def look(
    model: MetaSSM,
    trials: DeviceTrials | HostTrials,
    config: TrainingConfig,
    crop_bins: int,
    tail: int,
    pooling: str,
) -> dict[str, float]:
    """Both scores where the last `tail` bins are not seen; every look has the same crops and hidden
    entries."""
    gains = torch.zeros(2, 2, device=trials.device)
    for number, part in enumerate(trials.parts()):
        generator = SessionGenerator(trials.device).manual_seed(config.seed + number)
        restrict_to(generator, part.here, part.among)
        if part.n_sessions:
            gains = gains + gains_of(model, part, crop_bins, tail, pooling, generator)
    scores = [float(gain / number.clamp(min=1)) for gain, number in trials.processes.total(gains)]
    return dict(zip(("hidden_entries", "forecast"), scores, strict=True))


def gains_of(
    model: MetaSSM,
    trials: DeviceTrials,
    crop_bins: int,
    tail: int,
    pooling: str,
    generator: torch.Generator,
) -> Tensor:
    """Gain and what it is divided by, of hidden entries and of forecasts, (2, 2)."""
    count = trials.n_bins.shape[1]
    trial = torch.arange(count, device=trials.counts.device) % trials.n_trials[:, None]
    batch = crop(trials, trial, crop_bins, generator)
    seen, targets = hide(batch, tail_bins=tail, masking=0.0, dropout=HIDDEN, generator=generator)
    model.eval()
    features = model.features(seen)
    embedding = embedding_of(model, features, seen, pooling).mean
    transition = model.transition(embedding, seen.session)
    z = fill_masked(
        model.latents(features, embedding, seen.length).mean, targets.forecast, transition
    )
    model.train()
    once = torch.arange(count, device=trial.device) < trials.n_trials[:, None]
    weight = targets.weight._replace(bins=targets.weight.bins * once[..., None])
    return gains_given(model, seen, replace(targets, weight=weight), z)


def gains_given(model: MetaSSM, seen: Observations, targets: Targets, z: Tensor) -> Tensor:
    """`gains_of` where the latents are z (session, trial, time, latent), of some units at a time:
    memory has a bound."""
    gain = model.likelihood.gain
    mean, weight, gains = model.readin.mean[seen.session], targets.weight, z.new_zeros(2, 2)
    for rows, units in entry_chunks(seen.counts.flatten(1, 2).shape, seen.n_units, z.device):
        counts = seen.counts[rows, ..., units].float()  # (session, trial, time, unit) of a piece
        predicted = model.likelihood(z[rows], seen.session[rows], units)
        scored = (weight.bins[rows, ..., None] > 0) & weight.entries[rows, ..., units]
        ahead = targets.forecast[rows, ..., None]
        of_units = mean[rows, None, None, units]
        gains += torch.stack(
            [
                torch.stack(gain(counts, predicted, of_units, scored & where))
                for where in (~ahead, ahead)
            ]
        )
    return gains
