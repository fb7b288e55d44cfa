"""Trials on the device, and the random batches of them that a training step sees.

Axes are (session, trial, time, unit), padded to the largest session and the longest trial.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil, log

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Real
from numpy.typing import DTypeLike
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


def pad_sessions(arrays: list[np.ndarray], dtype: DTypeLike, here: list[int]) -> Tensor:
    """Arrays of the sessions `here`, stacked, padded with zeros to the largest of all sessions.

    >>> pad_sessions([np.ones(1), np.ones(3)], bool, [0])
    tensor([[ True, False, False]])
    """
    shape = np.max([array.shape for array in arrays], axis=0)
    out = np.zeros((len(here), *shape), dtype)
    for row, place in zip(out, here, strict=True):
        row[tuple(slice(size) for size in arrays[place].shape)] = arrays[place]
    return torch.from_numpy(out)


def pad_observed(
    sessions: list[TrialCounts], here: list[int]
) -> Bool[Tensor, "session trial time unit"] | None:
    """Which entries of the sessions `here` were observed; None where units are observed alike in
    all sessions."""
    if all(counts.unit_observed is None for counts in sessions):
        return None
    entries = [np.broadcast_to(counts.observed_entries, counts.counts.shape) for counts in sessions]
    return pad_sessions(entries, bool, here)


@dataclass(frozen=True)
class DeviceTrials:
    """All trials of some sessions on the device.

    n_bins: length of each trial. units: False in padding. latents: of the warm start, or None.
    n_units: of each session. session: rows of the model. unit_observed: None where the units of
    each session are observed alike. Of several processes each has its own sessions, which are
    those at the places `here` of the `among` sessions of the run.
    """

    counts: Real[Tensor, "session trial time unit"]
    observed: Bool[Tensor, "session trial time"]
    n_bins: Int[Tensor, "session trial"]
    n_trials: Int[Tensor, " session"]
    units: Bool[Tensor, "session unit"]
    latents: Float[Tensor, "session trial time latent"] | None
    n_units: tuple[int, ...]
    session: Int[Tensor, " session"]
    here: list[int]
    among: int
    processes: SingleProcess = SINGLE_PROCESS
    unit_observed: Bool[Tensor, "session trial time unit"] | None = None

    @staticmethod
    def of(
        sessions: list[TrialCounts],
        device: torch.device,
        latents: list[np.ndarray] | None = None,
        *,
        rows: list[int] | None = None,
        processes: SingleProcess = SINGLE_PROCESS,
    ) -> DeviceTrials:
        """The sessions of this process, padded as all of them are.

        latents: of each session (trial, time, latent). rows: where the sessions stand among those
        of the run, by default in this order.
        """
        rows = list(range(len(sessions))) if rows is None else rows
        here = processes.here(rows)
        known = np.result_type(*[counts.counts.dtype for counts in sessions])
        # Counts of one byte stay so, as they are most of the memory
        dtype = known if known.itemsize == 1 else np.float32
        counts = pad_sessions([each.counts for each in sessions], dtype, here)
        observed = pad_sessions([each.observed for each in sessions], bool, here)
        n_bins = pad_sessions([each.windows.n_bins for each in sessions], np.int64, here)
        units = pad_sessions([np.ones(each.n_units) for each in sessions], bool, here)
        n_trials = torch.tensor([sessions[place].n_trials for place in here], dtype=torch.long)
        session = torch.tensor([processes.local(rows[place]) for place in here], dtype=torch.long)
        entries = pad_observed(sessions, here)
        return DeviceTrials(
            counts=counts.to(device),
            observed=observed.to(device),
            n_bins=n_bins.to(device),
            n_trials=n_trials.to(device),
            units=units.to(device),
            latents=pad_sessions(latents, np.float32, here).to(device) if latents else None,
            n_units=tuple(sessions[place].n_units for place in here),
            session=session.to(device),
            here=here,
            among=len(rows),
            processes=processes,
            unit_observed=None if entries is None else entries.to(device),
        )

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
    """Cropped trials of some sessions.

    length: bins of each crop. units: False in padding. latents: of the warm start, or None.
    distinct: False from where on a session's trials come round again. session: rows of the model.
    here: which of the step's `among` sessions these are. unit_observed: as in `DeviceTrials`.
    """

    counts: Real[Tensor, "session trial time unit"]
    observed: Bool[Tensor, "session trial time"]
    length: Int[Tensor, "session trial"]
    units: Bool[Tensor, "session unit"]
    latents: Float[Tensor, "session trial time latent"] | None
    distinct: Bool[Tensor, "session trial"]
    n_units: tuple[int, ...]
    session: Int[Tensor, " session"]
    here: list[int]
    among: int
    unit_observed: Bool[Tensor, "session trial time unit"] | None = None

    @property
    def share(self) -> float:
        """The share of the step's sessions that are in this process."""
        return len(self.here) / self.among

    def warm_start(self) -> Float[Tensor, "session trial time latent"]:
        """The latents of the warm start; ValueError where there was none."""
        if self.latents is None:
            raise ValueError("these trials have no latents of a warm start")
        return self.latents


def restrict_to(generator: torch.Generator, here: list[int], among: int) -> None:
    """Have a generator draw random numbers of the sessions `here` alone, if not all are here.

    The numbers of a session do not depend on which process it is in.
    """
    if len(here) == among:
        return
    if not isinstance(generator, SessionGenerator):
        raise TypeError("only a SessionGenerator draws the random numbers of some of the sessions")
    generator.place = torch.tensor(here, dtype=torch.long, device=generator.device)
    generator.among = among


def uniform(
    shape: tuple[int, ...], generator: torch.Generator, device: torch.device
) -> Float[Tensor, "session ..."]:
    """Random numbers between 0 and 1, the first axis sessions."""
    return draw_for_sessions(torch.rand, shape, generator, device=device)


def uniform_below(
    bound: Int[Tensor, "session ..."], generator: torch.Generator
) -> Int[Tensor, "session ..."]:
    """Random integers from 0 to bound − 1, of the shape of `bound`."""
    numbers = uniform(tuple(bound.shape), generator, bound.device)
    # A product of floats can round up to `bound`
    return torch.minimum((numbers * bound).long(), bound - 1)


def draw_trials(
    n_trials: Int[Tensor, " session"], most: int, trials: int, generator: torch.Generator
) -> Int[Tensor, "session trial"]:
    """Random trials of each session without repetition, round again where a session has fewer.

    most: the largest number of trials that any session of the step has.
    """
    place = torch.arange(most, device=n_trials.device)
    keys = uniform((len(n_trials), most), generator, n_trials.device)
    keys = keys.masked_fill(place >= n_trials[:, None], 2.0)  # padding comes last in the order
    places = torch.arange(trials, device=n_trials.device) % n_trials[:, None]
    return keys.argsort(1).gather(1, places)


def crop(
    resident: DeviceTrials,
    trial: Int[Tensor, "session trial"],
    width: int,
    generator: torch.Generator,
    crop_bins: Int[Tensor, ""] | None = None,
) -> Batch:
    """At most `width` bins of each chosen trial, from a random bin on; or at most `crop_bins` of
    these, the rest being padding."""
    width = min(width, resident.counts.shape[2])
    place = torch.arange(width, device=trial.device)
    session = torch.arange(resident.n_sessions, device=trial.device)[:, None]
    n_bins = resident.n_bins[session, trial]
    length = n_bins.clamp(max=width if crop_bins is None else crop_bins)
    start = uniform_below(n_bins - length + 1, generator)
    time = start[..., None] + place  # (session, trial, time)
    inside = place < length[..., None]
    # Behind the last bin of the longest trial the last bin stands in, as padding
    time = time.clamp(max=resident.counts.shape[2] - 1)
    index = (session[..., None], trial[..., None], time)
    repeat = torch.arange(trial.shape[1], device=trial.device)
    entries = resident.unit_observed
    return Batch(
        counts=resident.counts[index],
        observed=resident.observed[index] & inside,
        length=length,
        units=resident.units,
        latents=None if resident.latents is None else resident.latents[index],
        distinct=repeat < resident.n_trials[:, None],
        n_units=resident.n_units,
        session=resident.session,
        here=resident.here,
        among=resident.among,
        unit_observed=None if entries is None else entries[index],
    )


def longest_masked(share: float) -> int:
    """How many bins in a row random masking of a share of them may hide; longer runs are cut, which
    are too rare to matter."""
    return ceil(log(RARE) / log(share)) if share else 0


def hide(
    batch: Batch,
    *,
    tail_bins: int | Int[Tensor, ""],
    masking: float,
    dropout: float,
    generator: torch.Generator,
    mask_scope: str = "trial",
    longest_tail: int | None = None,
) -> tuple[Observations, Targets]:
    """What the encoders see of a batch, and which entries are scored.

    The last `tail_bins` of a crop, at most two thirds, are not seen, and their latents come from
    the dynamics. The latents of a share `masking` of the other bins come from the dynamics too: the
    same bins in all trials of a session if that is the `mask_scope`. A share `dropout` of the
    entries is hidden from the encoders, and they alone are scored (coordinated dropout). Entries
    that were not observed are neither seen nor scored. If the tail is known to have at most
    `longest_tail` bins, runs of bins from the dynamics get a known bound too.
    """
    time = torch.arange(batch.counts.shape[2], device=batch.counts.device)
    context = torch.maximum(batch.length - tail_bins, (batch.length // 3).clamp(min=1))
    ahead = (time >= context[..., None]) & (time < batch.length[..., None])
    masked = draw_masked(batch, context, masking, mask_scope, generator)
    longest = None
    if longest_tail is not None:
        longest = longest_masked(masking) + longest_tail
        masked = masked & (mask_depth(masked) <= longest_masked(masking))
    visible, weight = hide_entries(batch, ahead, dropout, generator)
    seen = Observations(
        batch.counts, batch.observed, context, batch.session, visible, batch.distinct, batch.n_units
    )
    return seen, Targets(weight, masked | ahead, longest)


def draw_masked(
    batch: Batch,
    context: Int[Tensor, "session trial"],
    masking: float,
    mask_scope: str,
    generator: torch.Generator,
) -> Bool[Tensor, "session trial time"]:
    """Random bins of each context, but for its first, whose latents come from the dynamics."""
    sessions, trials, bins = batch.observed.shape
    time = torch.arange(bins, device=batch.counts.device)
    shape = (sessions, 1 if mask_scope == "session" else trials, bins)
    chosen = uniform(shape, generator, time.device) < masking
    return chosen & (time > 0) & (time < context[..., None])


def hide_entries(
    batch: Batch,
    ahead: Bool[Tensor, "session trial time"],
    dropout: float,
    generator: torch.Generator,
) -> tuple[Visible | None, EntryWeights]:
    """The entries that the encoders see (None: all), and the weight of each entry in the
    likelihood.

    A share `dropout` of the entries is hidden and weighs 1 / dropout, the others nothing; bins
    `ahead` are scored whole.
    """
    entries = batch.unit_observed
    in_session = batch.units[:, None, None]  # (session, 1, 1, unit)
    weight = EntryWeights(batch.observed.float(), in_session if entries is None else entries)
    visible = None
    if entries is not None:
        visible = Visible.of(entries, batch.units.sum(-1)[:, None, None])
    if not dropout:
        return visible, weight
    hidden = bernoulli(dropout, batch.counts.shape, generator, batch.counts.device)
    shown = Visible(~hidden, 1 - dropout) if visible is None else visible.without(hidden, dropout)
    bins = torch.where(ahead, weight.bins, weight.bins / dropout)
    # In place, as these are as large as the counts
    scored = hidden.logical_or_(ahead[..., None]).logical_and_(weight.entries)
    return shown, EntryWeights(bins, scored)
