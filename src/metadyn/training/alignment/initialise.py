"""A new session's first weights in a trained model: a readout for its latents, a copied read-in.

Counts y give latents z = W (y − ȳ) + o of the new session; these give the counts C_r z that session
r of the model would have had about its mean; these give the features of r's read-in. All three are
linear up to the rectifiers, so they become one first layer. The paper trains read-in and likelihood
of a new session from a random start (Vermani et al., arXiv:2410.05454, sections 3.3 and D.1).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from metadyn.model.meta_ssm import MetaSSM
from metadyn.model.trained import TrainedModel
from metadyn.records import TrialCounts
from metadyn.training.alignment.placement import Placement, find_placement
from metadyn.training.execution.loop import Reporter, reported
from metadyn.training.initial.conditions import init_by_regression, n_known_averages
from metadyn.training.initial.initialise import initialise_sessions, with_link
from metadyn.training.initial.labels import labels_of, listed
from metadyn.training.initial.session_init import SessionInit


def has_shared_conditions(trained: TrainedModel, counts: TrialCounts) -> bool:
    """Whether condition labels say where the session's trials lie in the latent space."""
    return why_not_by_conditions(trained, counts) is None


def why_not_by_conditions(trained: TrainedModel, counts: TrialCounts) -> str | None:
    """Why condition labels cannot place the session in the latent space; None where they can.

    They are not used with a Gaussian likelihood: the regression is one of Poisson counts.
    """
    shared, dim = trained.shared_latents, trained.config.latent_dim
    known, own = set(shared.labels), labels_of(counts)
    if not trained.module.likelihood.of_counts:
        return "the model has a Gaussian likelihood, with which condition labels are not used"
    if not known:
        return "the model knows no condition labels: its sessions had none, or shared none"
    if not known & own:
        return f"the model knows none of the labels {listed(own)}; it knows {listed(known)}"
    n_averages = n_known_averages(shared.latents, list(shared.labels), counts)
    if n_averages <= dim:
        return (
            f"{n_averages} averages of the labels that the model knows ({listed(known & own)}) "
            f"do not determine {dim} latents"
        )
    return None


def warn_of_labels(trained: TrainedModel, counts: TrialCounts) -> None:
    """Warn where a session has labels and they do not place it, or not all of them do."""
    if counts.condition is None or not trained.module.likelihood.of_counts:
        return
    known = trained.shared_latents.labels
    unknown = labels_of(counts) - set(known)
    reason = why_not_by_conditions(trained, counts)
    if reason:
        message = f"{reason}; it is placed by a search instead, without labels"
    elif unknown:
        message = (
            f"the model does not know its labels {listed(unknown)} (it knows {listed(known)}); "
            "their windows take no part in placing it"
        )
    else:
        return
    warnings.warn(f"{counts.session}: {message}", stacklevel=3)


def analytic_init(
    trained: TrainedModel, counts: TrialCounts, report: Reporter
) -> tuple[SessionInit, Placement | None]:
    """First weights by condition labels, or else by a search, with the placement it found."""
    if has_shared_conditions(trained, counts):
        shared, sd_bins = trained.shared_latents, trained.training.smoothing_bins
        labels = list(shared.labels)
        init = init_by_regression(shared.latents, labels, counts, shared.weight_var, sd_bins)
        return with_link(init, type(trained.module.likelihood)), None
    init = initialise_sessions([counts], trained.config, trained.training, report=report)[0]
    placement = find_placement(trained, init, counts, report=report)
    return init.mapped(placement.map, placement.offset), placement


def initialise_session(
    trained: TrainedModel,
    module: MetaSSM,
    init: SessionInit,
    placement: Placement | None,
    score: Callable[[], float],
    report: Reporter,
) -> None:
    """Set the weights of the new session in the module.

    The read-in is that of the session with the nearest embedding, or without a placement that with
    the best score.
    """

    def score_of(row: int) -> float:
        copy_readin(module, init, trained, row)
        return score()

    if placement is not None:
        copy_readin(module, init, trained, nearest_session(trained, placement))
        return
    rows = reported(range(len(trained.sessions)), "start", report)
    copy_readin(module, init, trained, max(rows, key=score_of))


def nearest_session(trained: TrainedModel, placement: Placement) -> int:
    """Row of the session whose embedding is nearest, of those whose embedding is known.

    The first where none is.
    """
    known = [row for row, entry in enumerate(trained.sessions) if entry.embedding_mean]
    distances = []
    for row in known:
        difference = np.subtract(trained.sessions[row].embedding_mean, placement.embedding_mean)
        distances.append(np.linalg.norm(difference))
    return known[int(np.argmin(distances))] if known else 0


def copy_readin(module: MetaSSM, init: SessionInit, trained: TrainedModel, row: int) -> None:
    """Set the new session's readout, and a read-in that goes on as that of training session `row`.

    module: a model of the new session alone.
    """
    old, new, n_old = trained.module.readin, module.readin, trained.sessions[row].n_units
    centers = trained.shared_latents.centers
    with torch.no_grad():
        new.mean[0] = _tensor(init.mean, new.mean)
        new.sd[0] = _tensor(init.sd, new.mean)
        # The read-in sees (y − ȳ) / sd, so W is multiplied by sd: (latent, unit)
        to_latent = _tensor(init.projection * init.sd, new.mean)
        # Latents to session `row`'s counts in its SDs, then to its first layer: (latent, hidden)
        slope = slope_of_counts(trained, row).T
        to_hidden = slope / old.sd[row, :n_old] @ old.weight_in[row, :n_old]
        shift = init.offset - (centers[row] if row < len(centers) else 0.0)
        new.weight_in[0] = to_latent.T @ to_hidden
        new.bias_in[0] = old.bias_in[row] + _tensor(shift, new.mean) @ to_hidden
        new.weight_out[0] = old.weight_out[row]
        new.bias_out[0] = old.bias_out[row]
    own = module.likelihood.initial_own(init.log_var, noise_scale=1.0)
    module.likelihood.set_session(0, init.weight, init.bias, own)


def slope_of_counts(trained: TrainedModel, row: int) -> Float[Tensor, "unit latent"]:
    """dE y / dz of a training session, by the latents about its mean count."""
    n_units = trained.sessions[row].n_units
    likelihood = trained.module.likelihood
    mean = trained.module.readin.mean[row, :n_units, None]
    return likelihood.weight[row, :n_units] * likelihood.slope_at(mean)


def _tensor(values: np.ndarray, like: Tensor) -> Tensor:
    """The values in the precision and on the device of `like`."""
    return torch.as_tensor(values, dtype=like.dtype, device=like.device)
