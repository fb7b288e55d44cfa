"""The starts of all sessions, and how they become weights of read-in and likelihood."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from metadyn.config import ModelConfig, TrainingConfig
from metadyn.data.storage import Storage, in_memory
from metadyn.model.build import build_model, likelihood_of
from metadyn.model.likelihoods.base import Likelihood
from metadyn.model.meta_ssm import MetaSSM
from metadyn.records import TrialCounts
from metadyn.training.alignment.labels import all_labelled
from metadyn.training.alignment.shared_latents import init_from_conditions
from metadyn.training.execution.loop import StepReport
from metadyn.training.initial.moments import SessionInit, init_from_activity


def set_standardisation(model: MetaSSM, row: int, start: SessionInit) -> None:
    """The mean and SD of a session's counts, which its read-in standardises them by, however it
    starts."""
    units = len(start.mean)
    with torch.no_grad():
        model.readin.mean[row, :units] = torch.as_tensor(start.mean).float()
        model.readin.sd[row, :units] = torch.as_tensor(start.sd).float()


# Noise starts at so many times the residual of the start; its decay lets the frames of sessions
# find each other
ANNEALED = 4.0


def set_session(model: MetaSSM, row: int, start: SessionInit) -> None:
    """Put a session's start into its row of the read-in and the likelihood.

    Each latent goes through a pair of rectifiers, relu(x) − relu(−x) = x, so the first features are
    the latents, beside a tenth of what the other hidden units add.
    """
    units, dim = start.weight.shape
    readin, likelihood = model.readin, model.likelihood
    set_standardisation(model, row, start)
    with torch.no_grad():
        linear = torch.as_tensor((start.projection * start.sd).T).float()
        readin.weight_in[row, :units, : 2 * dim] = torch.cat([linear, -linear], 1)
        readin.weight_out[row, : 2 * dim] = 0.0
        readin.weight_out[row, : 2 * dim, :dim] = torch.cat([torch.eye(dim), -torch.eye(dim)])
        readin.weight_out[row, 2 * dim :, :dim] *= 0.1
    own = likelihood.initial_own(start.log_var, noise_scale=ANNEALED)
    likelihood.set_session(row, start.weight, start.bias, own)


def initialise_sessions(
    sessions: list[TrialCounts],
    config: ModelConfig,
    training: TrainingConfig,
    storage: Storage = in_memory,
    report: Callable[[StepReport], None] = lambda _: None,
) -> list[SessionInit]:
    """By condition labels where all sessions share them, else by each session's own moments."""
    likelihood = likelihood_of(config)
    if likelihood.of_counts and len(sessions) > 1 and all_labelled(sessions):
        starts = init_from_conditions(
            sessions, config.latent_dim, training.smoothing_bins, storage, report
        )
    else:
        starts = init_from_activity(
            sessions, likelihood, config.latent_dim, training.smoothing_bins, storage, report
        )
    return [with_link(start, likelihood) for start in starts]


def with_link(start: SessionInit, likelihood: type[Likelihood]) -> SessionInit:
    """A start as one of that likelihood's link."""
    weight, bias = likelihood.initial_readout(start.weight, start.bias, start.mean)
    return replace(start, weight=weight, bias=bias)


def initialised_model(
    sessions: list[TrialCounts],
    starts: list[SessionInit],
    config: ModelConfig,
    training: TrainingConfig,
) -> MetaSSM:
    """A new model whose sessions stand at their starts, or without a warm start at random."""
    model = build_model(
        config,
        [counts.n_units for counts in sessions],
        process_noise=training.process_noise,
        posterior_log_var=training.posterior_log_var,
        seed=training.seed,
    )
    install = set_session if training.warm_start else set_standardisation
    for row, start in enumerate(starts):
        install(model, row, start)
    return model
