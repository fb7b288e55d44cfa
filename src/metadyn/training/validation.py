"""The scores that choose the checkpoint: bits per spike of entries that the encoders did not see.

The likelihood of training trials would choose a model that overfits.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from metadyn.config import TrainingConfig
from metadyn.inference.scores import HIDDEN
from metadyn.model.elbo import Targets, embedding_of
from metadyn.model.masking import fill_masked
from metadyn.model.meta_ssm import MetaSSM, Observations
from metadyn.model.ops.chunks import entry_chunks
from metadyn.model.ops.random import SessionGenerator
from metadyn.training.execution.batch import DeviceTrials, crop, hide, restrict_to
from metadyn.training.execution.trials import SessionTrials


@torch.no_grad()
def validate(
    model: MetaSSM,
    trials: SessionTrials,
    config: TrainingConfig,
    crop_bins: int,
    tails: tuple[int, int],
    pooling: str,
) -> dict[str, float]:
    """Log-likelihood above the mean rate, in bits per spike (Poisson) or per entry (Gaussian).

    Returns the scores `hidden_entries`, of a fifth of the entries, which the encoders do not see,
    before the shortest of `tails`; and `forecast`, of the bins in the longest of `tails`.

    trials: those that are scored.
    crop_bins: bins of a trial that are seen and scored, at most.
    tails: fewest and most bins at the end of a crop that the encoders do not see.
    pooling: how q(e) of a session's trials are combined.
    """
    scores = {
        tail: score_tail(model, trials, config, crop_bins, tail, pooling) for tail in set(tails)
    }
    shortest, longest = tails
    return {
        "hidden_entries": scores[shortest]["hidden_entries"],
        "forecast": scores[longest]["forecast"],
    }


def score_tail(
    model: MetaSSM,
    trials: SessionTrials,
    config: TrainingConfig,
    crop_bins: int,
    tail: int,
    pooling: str,
) -> dict[str, float]:
    """Both scores where the last `tail` bins are not seen.

    Every call has the same crops and hidden entries, so that scores of a run can be compared. Of
    several processes all have the scores of all sessions.
    """
    gains = torch.zeros(2, 2, device=trials.device)  # (hidden entries or forecast, gain or number)
    for number, part in enumerate(trials.parts()):
        generator = SessionGenerator(trials.device).manual_seed(config.seed + number)
        restrict_to(generator, part.here, part.among)
        if part.n_sessions:
            gains = gains + batch_gains(model, part, crop_bins, tail, pooling, generator)
    # Sums over parts and processes come before the quotient: an entry weighs the same anywhere
    gains = trials.processes.total(gains)
    scores = [float(gain / number.clamp(min=1)) for gain, number in gains]
    return dict(zip(("hidden_entries", "forecast"), scores, strict=True))


def batch_gains(
    model: MetaSSM,
    trials: DeviceTrials,
    crop_bins: int,
    tail: int,
    pooling: str,
    generator: torch.Generator,
) -> Float[Tensor, "2 2"]:
    """Gain in bits and the number it is divided by, of hidden entries and of forecasts.

    Every trial is scored once, at the mean of q(e) and q(z): no embedding or latent is sampled, and
    the read-in has no dropout. Latents of the tail come from the dynamics.

    trials: those of the sessions that are in this process; the others' numbers are added up later.
    """
    count = trials.n_bins.shape[1]
    place = torch.arange(count, device=trials.counts.device)
    trial = place % trials.n_trials[:, None]  # (session, trial), round again in smaller sessions
    batch = crop(trials, trial, crop_bins, generator)
    seen, targets = hide(batch, tail_bins=tail, masking=0.0, dropout=HIDDEN, generator=generator)
    features = model.features(seen)
    embedding = embedding_of(model, features, seen, pooling).mean
    transition = model.transition(embedding, seen.session)
    mean = model.latents(features, embedding, seen.length).mean
    z = fill_masked(mean, targets.forecast, transition)
    # A trial that comes round again does not count again
    once = place < trials.n_trials[:, None]
    weight = targets.weight._replace(bins=targets.weight.bins * once[..., None])
    return gains_given(model, seen, replace(targets, weight=weight), z)


def gains_given(
    model: MetaSSM,
    seen: Observations,
    targets: Targets,
    z: Float[Tensor, "session trial time latent"],
) -> Float[Tensor, "2 2"]:
    """`batch_gains` at latents z.

    Some units are scored at a time, so that the memory does not grow with their number.
    """
    gain = model.likelihood.gain
    mean = model.readin.mean[seen.session]  # (session, unit), of training trials
    weight = targets.weight
    gains = z.new_zeros(2, 2)
    n_units = seen.n_units or (seen.counts.shape[-1],) * len(seen.counts)
    points = seen.counts.flatten(1, 2)  # (session, trial · time, unit)
    for rows, units in entry_chunks(points.shape, n_units, z.device):
        counts = seen.counts[rows, ..., units].float()  # (session, trial, time, unit) of a chunk
        predicted = model.likelihood(z[rows], seen.session[rows], units)
        scored = (weight.bins[rows, ..., None] > 0) & weight.entries[rows, ..., units]
        ahead = targets.forecast[rows, ..., None]
        unit_mean = mean[rows, None, None, units]
        hidden = gain(counts, predicted, unit_mean, scored & ~ahead)
        forecast = gain(counts, predicted, unit_mean, scored & ahead)
        gains += torch.stack([torch.stack(hidden), torch.stack(forecast)])
    return gains
