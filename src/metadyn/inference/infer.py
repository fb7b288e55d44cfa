"""Latents, rates and embeddings of sessions that a model knows: q(e | y), q(z | y, e) and what
follows from them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from metadyn.errors import DataError
from metadyn.model.elbo import combine_embeddings
from metadyn.model.gaussian import Gaussian
from metadyn.model.meta_ssm import MetaSSM, Observations
from metadyn.model.readin import Visible
from metadyn.model.trained import TrainedModel
from metadyn.records import TrialCounts

NODES = 20  # of the quadrature for rates with a softplus link
CHUNK_BINS = 100_000  # bins encoded at once: bounds memory, long enough to keep the products full


def check_counts(trained: TrainedModel, counts: TrialCounts) -> int:
    """The session's row in the model; refuses units, spikes or bins that the model was not made
    for."""
    row = trained.index(counts.session)
    other = trained.sessions[row].other_data(counts)
    if other:
        raise DataError(
            "the model was made for other units or spikes of this session",
            file=counts.source.uri,
            item=f"session {counts.session}",
            found=other,
            remedy="the recording that the model was fitted to; this one under a name of its own: "
            "metadyn align MODEL NAME=FILE -o MODEL2",
        )
    if abs(counts.bin_width - trained.bin_width) > 1e-9:
        raise DataError(
            "the model was made for other bins",
            found=f"{counts.bin_width} s, not {trained.bin_width} s",
        )
    return row


def observations(
    module: MetaSSM,
    counts: TrialCounts,
    row: int,
    trials: slice,
    context: int | None = None,
    visible: np.ndarray | None = None,
) -> Observations:
    """Some trials of one session as the encoders see them.

    `context` bounds the bins they see, and the bins that there are; `visible` (trial, time, unit)
    are the entries they see, of those that were observed; they stand for all.
    """
    device, bins = module.log_q.device, slice(context)

    def padded(values: np.ndarray) -> Tensor:
        values = values[:, bins]
        out = np.zeros((1, *values.shape[:2], module.readin.mean.shape[1]), np.float32)
        out[0, :, :, : counts.n_units] = values
        return torch.from_numpy(out).to(device)

    shown = None
    if counts.unit_observed is not None:
        shown = Visible.of(padded(counts.unit_observed[trials]).bool(), counts.n_units)
    if visible is not None:
        entries, share = padded(visible[trials]).bool(), max(float(visible.mean()), 1e-6)
        shown = Visible(entries, share) if shown is None else shown.without(~entries, 1 - share)
    length = torch.as_tensor(counts.windows.n_bins[trials].astype(np.int64), device=device)[None]
    return Observations(
        padded(counts.counts[trials]),
        torch.as_tensor(counts.observed[trials, bins], device=device)[None],
        length if context is None else length.clamp(max=context),
        torch.tensor([row], device=device),
        shown,
    )


def chunks(counts: TrialCounts) -> Iterator[slice]:
    size = max(1, CHUNK_BINS // counts.counts.shape[1])
    return (slice(first, first + size) for first in range(0, counts.n_trials, size))


@torch.no_grad()
def trial_embeddings(
    trained: TrainedModel,
    counts: TrialCounts,
    context: int | None = None,
    visible: np.ndarray | None = None,
) -> Gaussian:
    """q(e | y) of each trial: (1, trial, embedding). `context` and `visible` as in
    `observations`."""
    module, row = trained.module.eval(), check_counts(trained, counts)
    parts = []
    for trials in chunks(counts):
        seen = observations(module, counts, row, trials, context, visible)
        parts.append(module.embedding(module.features(seen), seen.length))
    return joined(parts)


@torch.no_grad()
def features_of(
    trained: TrainedModel, counts: TrialCounts, context: int | None = None
) -> tuple[Tensor, Tensor]:
    """What the read-in makes of each trial, (1, trial, time, feature), and how many bins of it
    there are, (1, trial)."""
    module, row = trained.module.eval(), check_counts(trained, counts)
    parts = []
    for trials in chunks(counts):
        seen = observations(module, counts, row, trials, context)
        parts.append((module.features(seen), seen.length))
    features, length = (torch.cat(each, 1) for each in zip(*parts, strict=True))
    return features, length


@torch.no_grad()
def latents_given(
    trained: TrainedModel,
    counts: TrialCounts,
    embedding: Tensor,
    context: int | None = None,
    visible: np.ndarray | None = None,
) -> Gaussian:
    """q(z | y, e) of each trial, (1, trial, time, latent), for embeddings (1, trial, embedding)."""
    module, row = trained.module.eval(), check_counts(trained, counts)
    parts = []
    for trials in chunks(counts):
        seen = observations(module, counts, row, trials, context, visible)
        parts.append(module.latents(module.features(seen), embedding[:, trials], seen.length))
    return joined(parts)


def joined(parts: list[Gaussian]) -> Gaussian:
    """Chunks of trials end to end."""
    return Gaussian(torch.cat([q.mean for q in parts], 1), torch.cat([q.log_var for q in parts], 1))


def session_embedding(trained: TrainedModel, row: int, q: Gaussian) -> Gaussian:
    """q(e) of the session, (1, 1, embedding): as its training left it, else what the trials of q
    tell together."""
    entry, pooling = trained.sessions[row], trained.config.pooling
    if entry.embedding_mean:
        mean, sd = (
            q.mean.new_tensor(values)[None, None]
            for values in (entry.embedding_mean, entry.embedding_sd)
        )
        return Gaussian(mean, 2 * sd.log())
    return combine_embeddings(q, "mean" if pooling == "trial" else pooling)


def with_embedding(trained: TrainedModel, counts: TrialCounts) -> TrainedModel:
    """The model with the embedding of one session as these trials tell it; as it was where the
    dynamics know none."""
    if not trained.module.dynamics.embedded:
        return trained
    row = check_counts(trained, counts)
    unknown = replace(trained.sessions[row], embedding_mean=(), embedding_sd=())
    entries = list(trained.sessions)
    entries[row] = unknown
    q = session_embedding(
        replace(trained, sessions=tuple(entries)), row, trial_embeddings(trained, counts)
    )
    mean, sd = (tuple(values[0, 0].tolist()) for values in (q.mean, q.sd))
    entries[row] = replace(unknown, embedding_mean=mean, embedding_sd=sd)
    return replace(trained, sessions=tuple(entries))


def conditioning(trained: TrainedModel, row: int, q: Gaussian) -> Gaussian:
    """The q(e) that conditions the dynamics: the session's (1, 1, embedding), or each trial's own
    (1, trial, embedding)."""
    return q if trained.config.pooling == "trial" else session_embedding(trained, row, q)


def for_each_trial(told: Gaussian, q: Gaussian) -> Gaussian:
    """What conditions the dynamics, once for each trial of q: (1, trial, embedding)."""
    return Gaussian(told.mean.expand_as(q.mean), told.log_var.expand_as(q.mean))


def moments(
    function: Callable[[Tensor], Tensor], mean: Tensor, sd: Tensor
) -> tuple[Tensor, Tensor]:
    """Mean and SD of function(x), x ~ N(mean, sd²), by Gauss-Hermite quadrature."""
    nodes, weights = (
        mean.new_tensor(values) for values in np.polynomial.hermite_e.hermegauss(NODES)
    )
    weights = weights / weights.sum()
    values = [function(mean + sd * node) for node in nodes]
    first = sum(weight * value for weight, value in zip(weights, values, strict=True))
    second = sum(
        weight * (value - first) ** 2 for weight, value in zip(weights, values, strict=True)
    )
    return first, second.sqrt()


@torch.no_grad()
def rates(
    trained: TrainedModel, row: int, q: Gaussian, n_units: int
) -> tuple[np.ndarray, np.ndarray]:
    """Posterior mean and SD of each unit's rate [Hz], (trial, time, unit); for a Gaussian q(z)
    exact, but for the softplus link, of which NODES-point Gauss-Hermite quadrature takes the
    moments (off by less than .1 % up to an SD of 3 of C z)."""
    likelihood = trained.module.likelihood
    weight, bias = (
        likelihood.weight[row, :n_units].detach(),
        likelihood.bias[row, :n_units].detach(),
    )
    linear = q.mean[0] @ weight.T + bias
    variance = q.log_var[0].exp() @ (weight**2).T
    if trained.config.likelihood == "gaussian":
        mean, sd = linear, variance.sqrt()
    elif trained.config.link == "exp":
        mean = (linear + 0.5 * variance).exp()
        sd = mean * torch.expm1(variance).sqrt()
    else:
        mean, sd = moments(likelihood.expected, linear, variance.sqrt())
    return mean.numpy(force=True) / trained.bin_width, sd.numpy(force=True) / trained.bin_width


def coordinates(
    counts: TrialCounts,
    n_latents: int,
    n_embedding: int,
    first_bin: int = 0,
    n_bins: int | None = None,
) -> dict:
    """Named coordinates; `time` in seconds from the start of the window, at bin centres."""
    n_bins = counts.counts.shape[1] if n_bins is None else n_bins
    seconds = {"units": "s"}
    return {
        "trial": np.arange(counts.n_trials),
        "time": ("time", (first_bin + np.arange(n_bins) + 0.5) * counts.bin_width, seconds),
        "latent": np.arange(n_latents),
        "unit": counts.unit_rows,
        "embedding": np.arange(n_embedding),
        "start_time": ("trial", counts.windows.start, seconds),
        "n_bins": ("trial", counts.windows.n_bins),
        "row": ("trial", counts.windows.row),
    }


def attributes(trained: TrainedModel, counts: TrialCounts, estimate: str) -> dict:
    return {
        "session": counts.session,
        "bin_width": counts.bin_width,
        "table": counts.windows.table or "",
        "estimate": estimate,
        "embedding_scope": "window" if trained.config.pooling == "trial" else "session",
    }


def embedding_variables(q: Gaussian, used: Gaussian, session: Gaussian) -> dict:
    """Embeddings per trial as they were used and as each trial alone has them, and the
    session's."""
    return {
        "embedding_mean": (("trial", "embedding"), used.mean[0].numpy(force=True)),
        "embedding_sd": (("trial", "embedding"), used.sd[0].numpy(force=True)),
        "trial_embedding_mean": (("trial", "embedding"), q.mean[0].numpy(force=True)),
        "session_embedding_mean": ("embedding", session.mean[0, 0].numpy(force=True)),
        "session_embedding_sd": ("embedding", session.sd[0, 0].numpy(force=True)),
    }


def posterior(trained: TrainedModel, counts: TrialCounts) -> tuple[Gaussian, Gaussian, Gaussian]:
    """q(e) of each trial alone, q(e) that conditions the dynamics of each trial, and q(z) given its
    mean."""
    q = trial_embeddings(trained, counts)
    used = for_each_trial(conditioning(trained, check_counts(trained, counts), q), q)
    return q, used, latents_given(trained, counts, used.mean)


def observation_variables(counts: TrialCounts) -> dict:
    """Where some unit was observed, and, where units differ, where each was; False behind a
    window's end."""
    words = {
        "long_name": "whether some unit was observed; elsewhere all values are what the model interpolates"
    }
    variables = {"observed": (("trial", "time"), counts.observed, words)}
    if counts.unit_observed is not None:
        words = {
            "long_name": "whether the unit was observed; elsewhere its rate is inferred from other units and times"
        }
        variables["unit_observed"] = (("trial", "time", "unit"), counts.unit_observed, words)
    return variables


def within_windows(counts: TrialCounts, values: np.ndarray) -> np.ndarray:
    """Values (trial, time, …), NaN behind a window's end."""
    known = np.arange(counts.counts.shape[1]) < counts.windows.n_bins[:, None]
    return np.where(known[..., None], values, np.nan).astype(np.float32)


def smoothed_latents(trained: TrainedModel, counts: TrialCounts) -> np.ndarray:
    """Smoothed latents (trial, time, latent), NaN behind a window's end; what `infer` calls
    latent_mean."""
    return within_windows(counts, posterior(trained, counts)[2].mean[0].numpy(force=True))


def infer(trained: TrainedModel, counts: TrialCounts) -> xr.Dataset:
    """Smoothed latents, rates [Hz] and embeddings of one session (section 3.2).

    Returns a Dataset with latent_mean, latent_sd (trial, time, latent), rate_mean, rate_sd (trial,
    time, unit) [Hz] and embeddings (trial, embedding), (embedding); NaN behind a window's end.
    `observed` (trial, time) and, where units differ, `unit_observed` (trial, time, unit) say what
    was observed: latents and rates elsewhere are what the model interpolates, and a unit's rates
    what it infers from the others. Raises ModelFileError for a session the model does not know,
    DataError for other units or bins.
    """
    row = check_counts(trained, counts)
    q_e, used, q_z = posterior(trained, counts)
    rate_mean, rate_sd = rates(trained, row, q_z, counts.n_units)
    latent_mean, latent_sd = (values[0].numpy(force=True) for values in (q_z.mean, q_z.sd))
    hertz, arbitrary = {"units": "Hz"}, {"units": "a.u."}
    return xr.Dataset(
        {
            "latent_mean": (
                ("trial", "time", "latent"),
                within_windows(counts, latent_mean),
                arbitrary,
            ),
            "latent_sd": (
                ("trial", "time", "latent"),
                within_windows(counts, latent_sd),
                arbitrary,
            ),
            "rate_mean": (("trial", "time", "unit"), within_windows(counts, rate_mean), hertz),
            "rate_sd": (("trial", "time", "unit"), within_windows(counts, rate_sd), hertz),
            **embedding_variables(q_e, used, session_embedding(trained, row, q_e)),
            **observation_variables(counts),
        },
        coordinates(counts, trained.config.latent_dim, trained.config.embedding_dim),
        attributes(trained, counts, "smoothed"),
    )
