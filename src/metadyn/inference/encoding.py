"""Trials of one session through the encoders, some at a time: q(e | y) and q(z | y, e).

Equation: ȳ = Ω(y), q(e | y) = N(μ(ȳ), σ²(ȳ)), q(z_t | y, e) = N(μ_t(ȳ, e), σ_t²(ȳ, e)).
Symbols: y counts, Ω read-in of the session, e dynamical embedding, z latent state.
Reference: Vermani et al., arXiv:2410.05454, section 3.2.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from metadyn.errors import DataError
from metadyn.model.gaussian import Gaussian
from metadyn.model.meta_ssm import MetaSSM, Observations
from metadyn.model.readin import Visible
from metadyn.model.trained import TrainedModel
from metadyn.records import TrialCounts

CHUNK_BINS = 100_000  # bins encoded at once: bounds memory, long enough to keep the products full


def check_counts(trained: TrainedModel, counts: TrialCounts) -> int:
    """The session's row in the model.

    Raises
    ------
    ModelFileError : the model does not know the session.
    DataError : the model was made for other units, spikes or bins of it.
    """
    session_row = trained.index(counts.session)
    different = trained.sessions[session_row].other_data(counts)
    if different:
        raise DataError(
            "the model was made for other units or spikes of this session",
            file=counts.source.uri,
            item=f"session {counts.session}",
            found=different,
            remedy="the recording that the model was fitted to; this one under a name of its own: "
            "metadyn align MODEL NAME=FILE -o MODEL2",
        )
    if abs(counts.bin_width - trained.bin_width) > 1e-9:
        raise DataError(
            "the model was made for other bins",
            found=f"{counts.bin_width} s, not {trained.bin_width} s",
        )
    return session_row


def observations(
    module: MetaSSM,
    counts: TrialCounts,
    session_row: int,
    trials: slice,
    context: int | None = None,
    visible: Bool[np.ndarray, "trial time unit"] | None = None,
) -> Observations:
    """Some trials of one session as the encoders see them.

    `context` is the number of first bins that they see, and that there are (None: all); `visible`
    the entries that they see, of those that were observed: these stand for all.
    """
    device = module.log_q.device
    bins = slice(context)
    shown = None  # all entries
    if counts.unit_observed is not None:
        seen = _pad_units(module, counts.unit_observed[trials, bins]).bool()
        shown = Visible.of(seen, counts.n_units)
    if visible is not None:
        entries = _pad_units(module, visible[trials, bins]).bool()
        # the share is that of all trials, so that chunks do not differ
        share = max(float(visible.mean()), 1e-6)
        shown = Visible(entries, share) if shown is None else shown.without(~entries, 1 - share)
    observed = torch.as_tensor(counts.observed[trials, bins], device=device)  # (trial, time)
    length = torch.as_tensor(counts.windows.n_bins[trials].astype(np.int64), device=device)
    if context is not None:
        length = length.clamp(max=context)
    return Observations(  # of one session
        counts=_pad_units(module, counts.counts[trials, bins]),
        observed=observed[None],
        length=length[None],
        session=torch.tensor([session_row], device=device),
        visible=shown,
    )


def _pad_units(module: MetaSSM, values: np.ndarray) -> Float[Tensor, "1 trial time unit"]:
    """Values (trial, time, unit) of one session, with zeros up to the units of the largest."""
    most_units = module.readin.mean.shape[1]
    padded = np.zeros((1, *values.shape[:2], most_units), np.float32)
    padded[0, :, :, : values.shape[2]] = values
    return torch.from_numpy(padded).to(module.log_q.device)


def trial_chunks(counts: TrialCounts) -> Iterator[slice]:
    """Trials of about CHUNK_BINS bins at a time, in order."""
    size = max(1, CHUNK_BINS // counts.counts.shape[1])
    return (slice(first, first + size) for first in range(0, counts.n_trials, size))


def observed_chunks(
    trained: TrainedModel,
    counts: TrialCounts,
    context: int | None = None,
    visible: Bool[np.ndarray, "trial time unit"] | None = None,
) -> Iterator[tuple[slice, Observations]]:
    """Trials, some at a time, and what the encoders see of them.

    Raises
    ------
    ModelFileError, DataError : as of `check_counts`.
    """
    module = trained.module.eval()
    session_row = check_counts(trained, counts)
    for trials in trial_chunks(counts):
        yield trials, observations(module, counts, session_row, trials, context, visible)


@torch.no_grad()
def trial_embeddings(
    trained: TrainedModel,
    counts: TrialCounts,
    context: int | None = None,
    visible: Bool[np.ndarray, "trial time unit"] | None = None,
) -> Gaussian:
    """q(e | y) of each trial alone: (1, trial, embedding).

    `context` and `visible` as in `observations`; refuses as `check_counts` does.
    """
    module = trained.module
    parts = []
    for _, seen in observed_chunks(trained, counts, context, visible):
        parts.append(module.embedding(module.features(seen), seen.length))
    return concatenate_trials(parts)


@torch.no_grad()
def readin_features(
    trained: TrainedModel, counts: TrialCounts, context: int | None = None
) -> tuple[Float[Tensor, "1 trial time feature"], Int[Tensor, "1 trial"]]:
    """ȳ = Ω(y) of each trial, and how many of its bins the encoders see."""
    features = []
    lengths = []
    for _, seen in observed_chunks(trained, counts, context):
        features.append(trained.module.features(seen))
        lengths.append(seen.length)
    return torch.cat(features, 1), torch.cat(lengths, 1)


@torch.no_grad()
def latent_posterior(
    trained: TrainedModel,
    counts: TrialCounts,
    embedding: Float[Tensor, "1 trial embedding"],
    context: int | None = None,
    visible: Bool[np.ndarray, "trial time unit"] | None = None,
) -> Gaussian:
    """q(z | y, e) of each trial given its embedding: (1, trial, time, latent).

    `context` and `visible` as in `observations`; refuses as `check_counts` does.
    """
    module = trained.module
    parts = []
    for trials, seen in observed_chunks(trained, counts, context, visible):
        parts.append(module.latents(module.features(seen), embedding[:, trials], seen.length))
    return concatenate_trials(parts)


def concatenate_trials(parts: list[Gaussian]) -> Gaussian:
    """Gaussians (session, some trials, …) as one (session, trial, …), in the order given."""
    mean = torch.cat([q.mean for q in parts], 1)
    log_var = torch.cat([q.log_var for q in parts], 1)
    return Gaussian(mean, log_var)
