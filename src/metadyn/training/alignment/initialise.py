"""A new session's start in a trained model, without a step of training: a readout in the model's
frame, and the read-in of a training session behind it."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from metadyn.model.meta_ssm import MetaSSM
from metadyn.model.trained import TrainedModel
from metadyn.records import TrialCounts
from metadyn.training.alignment.labels import labels_of, listed
from metadyn.training.alignment.search import Placement, find_placement
from metadyn.training.alignment.shared_latents import init_by_regression, n_known
from metadyn.training.execution.loop import StepReport, reported
from metadyn.training.initial.initialise import initialise_sessions
from metadyn.training.initial.moments import SessionInit


def unplaced(trained: TrainedModel, counts: TrialCounts) -> str | None:
    """Why condition labels do not tell where the session's trials lie in the model's latent space;
    None where they do.

    Not with a Gaussian likelihood: the regression that places them is Poisson's, as in the starts
    of a fit.
    """
    known, given, dim = (
        set(trained.shared_latents.labels),
        labels_of(counts),
        trained.config.latent_dim,
    )
    if not trained.module.likelihood.of_counts:
        return "the model has a Gaussian likelihood, with which condition labels are not used"
    if not known:
        return "the model knows no condition labels: its sessions had none, or shared none"
    if not known & given:
        return f"the model knows none of the labels {listed(given)}; it knows {listed(known)}"
    n_averages = n_known(
        trained.shared_latents.latents, list(trained.shared_latents.labels), counts
    )
    if n_averages <= dim:
        return f"{n_averages} averages of the labels that the model knows ({listed(known & given)}) do not tell {dim} latents"
    return None


def warn_of_labels(trained: TrainedModel, counts: TrialCounts) -> None:
    """Say where labels were given and do not place the session, or not all of them do."""
    if counts.condition is None or not trained.module.likelihood.of_counts:
        return
    reason, unknown = (
        unplaced(trained, counts),
        labels_of(counts) - set(trained.shared_latents.labels),
    )
    if reason:
        warnings.warn(
            f"{counts.session}: {reason}; it is placed by a search instead, without labels",
            stacklevel=3,
        )
    elif unknown:
        known = f"the model does not know its labels {listed(unknown)} (it knows {listed(trained.shared_latents.labels)})"
        warnings.warn(
            f"{counts.session}: {known}; their windows take no part in placing it", stacklevel=3
        )


def analytic_init(
    trained: TrainedModel, counts: TrialCounts, report: Callable[[StepReport], None]
) -> tuple[SessionInit, Placement | None]:
    """By condition labels, or by a search for the placement and the embedding."""
    if unplaced(trained, counts) is None:
        frame, sd_bins = trained.shared_latents, trained.training.smoothing_bins
        return init_by_regression(
            frame.latents, list(frame.labels), counts, frame.weight_var, sd_bins
        ), None
    start = initialise_sessions([counts], trained.config, trained.training, report=report)[0]
    placement = find_placement(trained, start, counts, report=report)
    return start.mapped(placement.map, placement.offset), placement


def copy_readin(module: MetaSSM, start: SessionInit, trained: TrainedModel, row: int) -> None:
    """The start's readout, and the read-in of training session `row` behind it.

    The new counts give latents, these the counts that session `row` would have had, and these its
    features: all linear up to the rectifiers, so the three become one first layer.
    """
    old, new, n_old = trained.module, module.readin, trained.sessions[row].n_units
    with torch.no_grad():
        new.mean[0], new.sd[0] = _tensor(start.mean, new.mean), _tensor(start.sd, new.mean)
        to_latent = _tensor(start.projection * start.sd, new.mean)
        to_hidden = (
            slope_of_counts(trained, row).T
            / old.readin.sd[row, :n_old]
            @ old.readin.weight_in[row, :n_old]
        )
        centers = trained.shared_latents.centers
        shift = start.offset - (centers[row] if row < len(centers) else 0.0)
        new.weight_in[0] = to_latent.T @ to_hidden
        new.bias_in[0] = old.readin.bias_in[row] + _tensor(shift, new.mean) @ to_hidden
        new.weight_out[0], new.bias_out[0] = old.readin.weight_out[row], old.readin.bias_out[row]
    own = module.likelihood.initial_own(start.log_var, noise_scale=1.0)
    module.likelihood.set_session(0, start.weight, start.bias, own)


def slope_of_counts(trained: TrainedModel, row: int) -> Tensor:
    """By how much the expected counts of a training session change with its latents about their
    mean: (unit, latent)."""
    n_units = trained.sessions[row].n_units
    weight, mean = (
        trained.module.likelihood.weight[row, :n_units],
        trained.module.readin.mean[row, :n_units, None],
    )
    return weight * trained.module.likelihood.slope_at(mean)


def _tensor(values: np.ndarray, like: Tensor) -> Tensor:
    return torch.as_tensor(values, dtype=like.dtype, device=like.device)


def nearest(trained: TrainedModel, placement: Placement) -> int:
    """Row of the session whose embedding is nearest, of those whose embedding is known; the first
    where none is."""
    known = [row for row, entry in enumerate(trained.sessions) if entry.embedding_mean]
    far = [
        np.linalg.norm(np.subtract(trained.sessions[row].embedding_mean, placement.embedding_mean))
        for row in known
    ]
    return known[int(np.argmin(far))] if known else 0


def install(
    trained: TrainedModel,
    module: MetaSSM,
    start: SessionInit,
    placement: Placement | None,
    score: Callable[[], float],
    report: Callable[[StepReport], None],
) -> None:
    """Put the start into the module, with the read-in of the session nearest in embedding, or else
    the one that scores best."""

    def tried(row: int) -> float:
        copy_readin(module, start, trained, row)
        return score()

    rows = reported(range(len(trained.sessions)), "start", report)
    copy_readin(
        module,
        start,
        trained,
        max(rows, key=tried) if placement is None else nearest(trained, placement),
    )
