"""Trials on the device, and the random batches that a training step sees."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from metadyn.model.elbo import Targets
from metadyn.model.meta_ssm import Observations
from metadyn.records import TrialCounts


def _padded(arrays: list[np.ndarray], dtype) -> Tensor:
    shape = np.max([array.shape for array in arrays], axis=0)
    out = np.zeros((len(arrays), *shape), dtype)
    for row, array in zip(out, arrays, strict=True):
        row[tuple(slice(size) for size in array.shape)] = array
    return torch.from_numpy(out)


@dataclass(frozen=True)
class Resident:
    """All trials of some sessions, padded: counts (session, trial, time, unit), observed (session, trial, time),
    n_bins (session, trial), n_trials (session,), units (session, unit) False in padding, latents of the warm start or None;
    n_units of each session."""

    counts: Tensor
    observed: Tensor
    n_bins: Tensor
    n_trials: Tensor
    units: Tensor
    latents: Tensor | None
    n_units: tuple[int, ...]

    @staticmethod
    def of(sessions: list[TrialCounts], device: torch.device, latents: list[np.ndarray] | None = None) -> Resident:
        dtype = np.result_type(*[counts.counts.dtype for counts in sessions])
        tensors = [
            _padded([counts.counts for counts in sessions], dtype if dtype.itemsize == 1 else np.float32),
            _padded([counts.observed for counts in sessions], bool),
            _padded([counts.windows.n_bins for counts in sessions], np.int64),
            torch.tensor([counts.n_trials for counts in sessions]),
            _padded([np.ones(counts.n_units) for counts in sessions], bool),
            _padded(latents, np.float32) if latents else None,
        ]
        n_units = tuple(counts.n_units for counts in sessions)
        return Resident(*[tensor if tensor is None else tensor.to(device) for tensor in tensors], n_units)

    @property
    def n_sessions(self) -> int:
        return len(self.n_trials)


@dataclass(frozen=True)
class Batch:
    """Cropped trials: counts (session, trial, time, unit) float, observed, length (session, trial) of the crop.

    distinct (session, trial): False from where on a session's trials come round again.
    """

    counts: Tensor
    observed: Tensor
    length: Tensor
    units: Tensor
    latents: Tensor | None
    distinct: Tensor
    n_units: tuple[int, ...]


def uniform(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.rand(shape, generator=generator, device=generator.device)


def uniform_below(bound: Tensor, generator: torch.Generator) -> Tensor:
    """Random integers in [0, bound), of the shape of `bound`; a product of floats alone can round up to `bound`."""
    return torch.minimum((uniform(tuple(bound.shape), generator) * bound).long(), bound - 1)


def draw_trials(resident: Resident, trials: int, generator: torch.Generator) -> Tensor:
    """(session, trial): trials without repetition, round again where a session has fewer."""
    shape = resident.n_bins.shape
    keys = uniform(shape, generator).masked_fill(
        torch.arange(shape[1], device=generator.device) >= resident.n_trials[:, None], 2.0
    )
    places = torch.arange(trials, device=generator.device) % resident.n_trials[:, None]
    return keys.argsort(1).gather(1, places)


def crop(resident: Resident, trial: Tensor, crop_bins: int, generator: torch.Generator) -> Batch:
    """A random stretch of at most `crop_bins` bins of each trial (session, trial)."""
    crop_bins = min(crop_bins, resident.counts.shape[2])
    session = torch.arange(resident.n_sessions, device=trial.device)[:, None]
    n_bins = resident.n_bins[session, trial]
    length = n_bins.clamp(max=crop_bins)
    start = uniform_below(n_bins - length + 1, generator)
    time = start[..., None] + torch.arange(crop_bins, device=trial.device)
    inside = torch.arange(crop_bins, device=trial.device) < length[..., None]
    index = (session[..., None], trial[..., None], time.clamp(max=resident.counts.shape[2] - 1))
    return Batch(
        resident.counts[index].float(),
        resident.observed[index] & inside,
        length,
        resident.units,
        resident.latents[index] if resident.latents is not None else None,
        torch.arange(trial.shape[1], device=trial.device) < resident.n_trials[:, None],
        resident.n_units,
    )


def hide(
    batch: Batch, *, tail_bins: int, masking: float, dropout: float, generator: torch.Generator, mask_scope: str = "trial"
) -> tuple[Observations, Targets]:
    """What the encoders may see of a batch, and what is scored.

    The last `tail_bins`, at most two thirds, are not seen and come from the dynamics; `masking` of the others come from the
    dynamics too, the same bins in all trials of a session where that is the `mask_scope`;
    `dropout` of the entries are hidden from the encoder and stand for all in the likelihood (coordinated dropout).
    """
    time = torch.arange(batch.counts.shape[2], device=batch.counts.device)
    context = torch.maximum(batch.length - tail_bins, (batch.length // 3).clamp(min=1))
    ahead = (time >= context[..., None]) & (time < batch.length[..., None])
    sessions, trials, bins = batch.observed.shape
    masks = (sessions, 1 if mask_scope == "session" else trials, bins)
    masked = (uniform(masks, generator) < masking) & (time > 0) & (time < context[..., None])
    scored = batch.observed[..., None].float() * batch.units[:, None, None].float()
    visible = None
    if dropout:
        hidden = uniform(batch.counts.shape, generator) < dropout
        visible = (~hidden).float().div_(1 - dropout)
        scored *= hidden.float().div_(dropout).masked_fill_(ahead[..., None], 1.0)
    session = torch.arange(len(batch.counts), device=batch.counts.device)
    seen = Observations(batch.counts, batch.observed, context, session, visible, batch.distinct, batch.n_units)
    return seen, Targets(scored, masked | ahead)
