"""Trials on the device, and the random batches that a training step sees."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil, log

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from metadyn.model.elbo import Targets
from metadyn.model.masking import mask_depth
from metadyn.model.meta_ssm import Observations
from metadyn.model.ops.random import SessionGenerator, bernoulli, draw_for_sessions
from metadyn.model.ops.weighted_log_prob import EntryWeights
from metadyn.model.readin import Visible
from metadyn.records import TrialCounts
from metadyn.training.execution.distributed import SINGLE_PROCESS, SingleProcess

# Probability that a run of masked bins, from some bin on, is cut short: not once in 1000 steps of
# 10⁵ bins
RARE = 1e-9


def _padded(arrays: list[np.ndarray], dtype, here: list[int]) -> Tensor:
    """Those at `here`, padded to the largest of all."""
    shape = np.max([array.shape for array in arrays], axis=0)
    out = np.zeros((len(here), *shape), dtype)
    for row, place in zip(out, here, strict=True):
        row[tuple(slice(size) for size in arrays[place].shape)] = arrays[place]
    return torch.from_numpy(out)


def _entries(sessions: list[TrialCounts], here: list[int]) -> Tensor | None:
    """Which entries were observed (session, trial, time, unit), of those at `here`; None where no
    session's units differ."""
    if all(counts.unit_observed is None for counts in sessions):
        return None
    return _padded(
        [np.broadcast_to(counts.observed_entries, counts.counts.shape) for counts in sessions],
        bool,
        here,
    )


@dataclass(frozen=True)
class DeviceTrials:
    """All trials of some sessions, padded: counts (session, trial, time, unit), observed (session,
    trial, time), n_bins (session, trial), n_trials (session,), units (session, unit) False in
    padding, latents of the warm start or None; n_units of each session; session (session,): rows of
    the model; unit_observed (session, trial, time, unit), None where all units of each session are
    observed alike.

    Of several processes each has its own sessions, which stand at the places `here` of `among`.
    """

    counts: Tensor
    observed: Tensor
    n_bins: Tensor
    n_trials: Tensor
    units: Tensor
    latents: Tensor | None
    n_units: tuple[int, ...]
    session: Tensor
    here: list[int]
    among: int
    processes: SingleProcess = SINGLE_PROCESS
    unit_observed: Tensor | None = None

    @staticmethod
    def of(
        sessions: list[TrialCounts],
        device: torch.device,
        latents: list[np.ndarray] | None = None,
        *,
        rows: list[int] | None = None,
        processes: SingleProcess = SINGLE_PROCESS,
    ) -> DeviceTrials:
        """The sessions of this process, padded as all of them; `rows`: where they stand among those
        of the run (None: so)."""
        rows = list(range(len(sessions))) if rows is None else rows
        here = processes.here(rows)
        dtype = np.result_type(*[counts.counts.dtype for counts in sessions])
        tensors = [
            _padded(
                [counts.counts for counts in sessions],
                dtype if dtype.itemsize == 1 else np.float32,
                here,
            ),
            _padded([counts.observed for counts in sessions], bool, here),
            _padded([counts.windows.n_bins for counts in sessions], np.int64, here),
            torch.tensor([sessions[place].n_trials for place in here], dtype=torch.long),
            _padded([np.ones(counts.n_units) for counts in sessions], bool, here),
            _padded(latents, np.float32, here) if latents else None,
            _entries(sessions, here),
        ]
        n_units = tuple(sessions[place].n_units for place in here)
        session = torch.tensor(
            [processes.local(rows[place]) for place in here], dtype=torch.long, device=device
        )
        *moved, entries = [tensor if tensor is None else tensor.to(device) for tensor in tensors]
        return DeviceTrials(*moved, n_units, session, here, len(rows), processes, entries)

    @property
    def n_sessions(self) -> int:
        """How many sessions are in this process."""
        return len(self.n_trials)

    @property
    def device(self) -> torch.device:
        """Where the trials are."""
        return self.counts.device

    @property
    def complete(self) -> bool:
        """Every batch has trials of all sessions."""
        return True

    def batch(
        self,
        trials: int,
        width: int,
        generator: torch.Generator,
        crop_bins: Int[Tensor, ""] | None = None,
    ) -> Batch:
        """Crops of random trials of each session, as `crop`."""
        restrict_to(generator, self.here, self.among)
        trial = draw_trials(self.n_trials, self.n_bins.shape[1], trials, generator)
        return crop(self, trial, width, generator, crop_bins)

    def batches(self, trials: int, width: int, seed: int) -> Iterator[Batch]:
        """One batch of all sessions."""
        yield self.batch(trials, width, SessionGenerator(self.device).manual_seed(seed))

    def parts(self) -> Iterator[DeviceTrials]:
        """All trials, at once."""
        yield self


@dataclass(frozen=True)
class Batch:
    """Cropped trials: counts (session, trial, time, unit), observed, length (session, trial) of the
    crop.

    distinct (session, trial): False from where on a session's trials come round again; session
    (session,): rows of the model; here: which of the step's `among` sessions these are;
    unit_observed (session, trial, time, unit) as in `DeviceTrials`.
    """

    counts: Tensor
    observed: Tensor
    length: Tensor
    units: Tensor
    latents: Tensor | None
    distinct: Tensor
    n_units: tuple[int, ...]
    session: Tensor
    here: list[int]
    among: int
    unit_observed: Tensor | None = None

    @property
    def share(self) -> float:
        """Of the step's sessions, those in this process."""
        return len(self.here) / self.among


def restrict_to(generator: torch.Generator, here: list[int], among: int) -> None:
    """Let a generator know which of a step's sessions are in this process, if not all are."""
    if len(here) < among:
        generator.place, generator.among = (
            torch.tensor(here, dtype=torch.long, device=generator.device),
            among,
        )


def uniform(shape: tuple[int, ...], generator: torch.Generator, device: torch.device) -> Tensor:
    return draw_for_sessions(torch.rand, shape, generator, device=device)


def uniform_below(bound: Tensor, generator: torch.Generator) -> Tensor:
    """Random integers in [0, bound), of the shape of `bound`; a product of floats alone can round
    up to `bound`."""
    return torch.minimum(
        (uniform(tuple(bound.shape), generator, bound.device) * bound).long(), bound - 1
    )


def draw_trials(n_trials: Tensor, most: int, trials: int, generator: torch.Generator) -> Tensor:
    """(session, trial): trials without repetition, round again where a session has fewer; `most`
    that any session has."""
    keys = uniform((len(n_trials), most), generator, n_trials.device)
    keys = keys.masked_fill(torch.arange(most, device=n_trials.device) >= n_trials[:, None], 2.0)
    places = torch.arange(trials, device=n_trials.device) % n_trials[:, None]
    return keys.argsort(1).gather(1, places)


def crop(
    resident: DeviceTrials,
    trial: Tensor,
    width: int,
    generator: torch.Generator,
    crop_bins: Tensor | None = None,
) -> Batch:
    """A random stretch of at most `width` bins of each trial (session, trial), or of at most
    `crop_bins` () of them."""
    width = min(width, resident.counts.shape[2])
    session = torch.arange(resident.n_sessions, device=trial.device)[:, None]
    n_bins = resident.n_bins[session, trial]
    length = n_bins.clamp(max=width if crop_bins is None else crop_bins)
    start = uniform_below(n_bins - length + 1, generator)
    time = start[..., None] + torch.arange(width, device=trial.device)
    inside = torch.arange(width, device=trial.device) < length[..., None]
    index = (session[..., None], trial[..., None], time.clamp(max=resident.counts.shape[2] - 1))
    return Batch(
        resident.counts[index],
        resident.observed[index] & inside,
        length,
        resident.units,
        resident.latents[index] if resident.latents is not None else None,
        torch.arange(trial.shape[1], device=trial.device) < resident.n_trials[:, None],
        resident.n_units,
        resident.session,
        resident.here,
        resident.among,
        None if resident.unit_observed is None else resident.unit_observed[index],
    )


def longest_masked(share: float) -> int:
    """Bins in a row that random masking of a share of them leaves to chance: more are too rare to
    be missed."""
    return ceil(log(RARE) / log(share)) if share else 0


def hide(
    batch: Batch,
    *,
    tail_bins: int | Tensor,
    masking: float,
    dropout: float,
    generator: torch.Generator,
    mask_scope: str = "trial",
    longest_tail: int | None = None,
) -> tuple[Observations, Targets]:
    """What the encoders may see of a batch, and what is scored.

    The last `tail_bins`, at most two thirds, are not seen and come from the dynamics; `masking` of
    the others come from the dynamics too, the same bins in all trials of a session where that is
    the `mask_scope`; `dropout` of the entries are hidden from the encoder and stand for all in the
    likelihood (coordinated dropout). Entries that were not observed are neither seen nor scored.
    Where the tail is known to have at most `longest_tail` bins, so is the longest run of bins from
    the dynamics.
    """
    time = torch.arange(batch.counts.shape[2], device=batch.counts.device)
    context = torch.maximum(batch.length - tail_bins, (batch.length // 3).clamp(min=1))
    ahead = (time >= context[..., None]) & (time < batch.length[..., None])
    sessions, trials, bins = batch.observed.shape
    masks = (sessions, 1 if mask_scope == "session" else trials, bins)
    masked = (
        (uniform(masks, generator, time.device) < masking)
        & (time > 0)
        & (time < context[..., None])
    )
    longest = None
    if longest_tail is not None:
        masked, longest = (
            masked & (mask_depth(masked) <= longest_masked(masking)),
            longest_masked(masking) + longest_tail,
        )
    entries = batch.unit_observed
    weight = EntryWeights(
        batch.observed.float(), batch.units[:, None, None] if entries is None else entries
    )
    visible = None if entries is None else Visible.of(entries, batch.units.sum(-1)[:, None, None])
    if dropout:
        hidden = bernoulli(dropout, batch.counts.shape, generator, time.device)
        visible = (
            Visible(~hidden, 1 - dropout) if visible is None else visible.without(hidden, dropout)
        )
        of_bins = torch.where(ahead, weight.bins, weight.bins / dropout)
        weight = EntryWeights(
            of_bins, hidden.logical_or_(ahead[..., None]).logical_and_(weight.entries)
        )
    seen = Observations(
        batch.counts, batch.observed, context, batch.session, visible, batch.distinct, batch.n_units
    )
    return seen, Targets(weight, masked | ahead, longest)
