"""A new session's start in a trained model, without a step of training: a readout in the model's frame, and the read-in of a
training session behind it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from metadyn.model.meta_ssm import MetaSSM
from metadyn.model.trained import TrainedModel
from metadyn.records import TrialCounts
from metadyn.training.frame import regress_on
from metadyn.training.warmstart import Start, canonical_rotation, session_starts

PHASES = 16  # rotations tried within the planes that latents turn in


def turned_to_model(trained: TrainedModel, counts: TrialCounts) -> Start:
    """A start from the session's own moments, scaled like the model's latents, turning the way they turn."""
    config = trained.config
    start = session_starts([counts], config.likelihood, config.latent_dim, trained.training.smoothing_bins)[0]
    if config.latent_dim > 1:
        start = start.turned(canonical_rotation(start.latents, counts.observed))
    return start.scaled(float(trained.frame.latent_sd.mean() / max(start.latents[counts.observed].std(0).mean(), 1e-6)))


def framed(trained: TrainedModel, counts: TrialCounts) -> bool:
    """Whether the session's condition labels tell where its trials lie in the model's latent space.

    Not with a Gaussian likelihood: the regression that places them is Poisson's, as in the starts of a fit.
    """
    if counts.condition is None or trained.config.likelihood != "poisson":
        return False
    return bool(set(counts.condition) & set(trained.frame.labels))


def analytic_start(trained: TrainedModel, counts: TrialCounts) -> Start:
    if not framed(trained, counts):
        return turned_to_model(trained, counts)
    frame, sd_bins = trained.frame, trained.training.smoothing_bins
    return regress_on(frame.latents, list(frame.labels), counts, frame.weight_var, sd_bins)


def plane_rotation(dim: int, phases: np.ndarray) -> np.ndarray:
    """Rotations by `phases` within the planes (0, 1), (2, 3), …"""
    rotation = np.eye(dim)
    for i, phase in enumerate(phases):
        cos, sin = np.cos(phase), np.sin(phase)
        rotation[2 * i : 2 * i + 2, 2 * i : 2 * i + 2] = [[cos, -sin], [sin, cos]]
    return rotation


def transplant(module: MetaSSM, start: Start, trained: TrainedModel, row: int) -> None:
    """The start's readout, and the read-in of training session `row` behind it.

    The new counts give latents, these the counts that session `row` would have had, and these its features:
    all linear up to the rectifiers, so the three become one first layer.
    """
    old, new = trained.module, module.readin
    n_old = trained.sessions[row].n_units
    with torch.no_grad():
        new.mean[0], new.sd[0] = _tensor(start.mean, new.mean), _tensor(start.sd, new.mean)
        to_latent = _tensor(start.projection * start.sd, new.mean)
        weight = old.likelihood.weight[row, :n_old]
        if trained.config.likelihood == "poisson":
            weight = weight * old.readin.mean[row, :n_old, None]
        to_counts = weight / old.readin.sd[row, :n_old, None]
        new.weight_in[0] = to_latent.T @ to_counts.T @ old.readin.weight_in[row, :n_old]
        new.bias_in[0], new.weight_out[0], new.bias_out[0] = (
            old.readin.bias_in[row],
            old.readin.weight_out[row],
            old.readin.bias_out[row],
        )
        module.likelihood.weight[0], module.likelihood.bias[0] = _tensor(start.weight, new.mean), _tensor(start.bias, new.mean)
        if trained.config.likelihood == "gaussian":
            module.likelihood.log_var[0] = _tensor(start.log_var, new.mean)


def _tensor(values: np.ndarray, like: Tensor) -> Tensor:
    return torch.as_tensor(values, dtype=like.dtype, device=like.device)


def find_start(trained: TrainedModel, module: MetaSSM, counts: TrialCounts, score: Callable[[], float]) -> None:
    """Install the start that scores best among training sessions' read-ins and, without a frame, rotations."""
    start = analytic_start(trained, counts)

    def tried(rotation: np.ndarray, row: int) -> float:
        transplant(module, start.turned(rotation), trained, row)
        return score()

    dim = trained.config.latent_dim
    best_row = max(range(len(trained.sessions)), key=lambda row: tried(np.eye(dim), row))
    phases = np.random.default_rng(0).uniform(0, 2 * np.pi, (PHASES, dim // 2)) * (not framed(trained, counts))
    rotations = [np.eye(dim), *[plane_rotation(dim, phase) for phase in phases if phase.any()]]
    tried(max(rotations, key=lambda rotation: tried(rotation, best_row)), best_row)
