"""From first weights of all sessions to a new model: read-in and likelihood are set, not learned.

The read-in's features are its first layer's rectifiers in pairs, relu(x) − relu(−x) = x, so that
they are the latents x = W (y − ȳ) of `SessionInit`; the likelihood is C z + D. The paper starts at
random (Vermani et al., arXiv:2410.05454, section D.1), from where Poisson models collapse to the
mean rate.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from metadyn.config import ModelConfig, TrainingConfig
from metadyn.data.storage import Storage, in_memory
from metadyn.model.build import build_model, likelihood_of
from metadyn.model.likelihoods.base import Likelihood
from metadyn.model.meta_ssm import MetaSSM
from metadyn.records import TrialCounts
from metadyn.training.execution.loop import Reporter, silent
from metadyn.training.initial.activity import init_from_activity
from metadyn.training.initial.conditions import init_from_conditions
from metadyn.training.initial.labels import all_labelled
from metadyn.training.initial.session_init import SessionInit

# Noise begins at so many times the residual of the first weights; while it falls, the latents of
# different sessions find each other
ANNEALED = 4.0


def initialise_sessions(
    sessions: list[TrialCounts],
    config: ModelConfig,
    training: TrainingConfig,
    storage: Storage = in_memory,
    report: Reporter = silent,
) -> list[SessionInit]:
    """First weights of each session.

    By condition labels where all sessions share them, else by each session's own activity.
    """
    likelihood = likelihood_of(config)
    n_latents, sd_bins = config.latent_dim, training.smoothing_bins
    if likelihood.of_counts and len(sessions) > 1 and all_labelled(sessions):
        inits = init_from_conditions(sessions, n_latents, sd_bins, storage, report)
    else:
        inits = init_from_activity(sessions, likelihood, n_latents, sd_bins, storage, report)
    return [with_link(init, likelihood) for init in inits]


def with_link(init: SessionInit, likelihood: type[Likelihood]) -> SessionInit:
    """The same with C and D for the link of the likelihood; they were found for exp or identity."""
    weight, bias = likelihood.initial_readout(init.weight, init.bias, init.mean)
    return replace(init, weight=weight, bias=bias)


def initialised_model(
    sessions: list[TrialCounts],
    inits: list[SessionInit],
    config: ModelConfig,
    training: TrainingConfig,
) -> MetaSSM:
    """A new model with these first weights; without `warm_start` only the counts' scale is set."""
    model = build_model(
        config,
        [counts.n_units for counts in sessions],
        process_noise=training.process_noise,
        posterior_log_var=training.posterior_log_var,
        seed=training.seed,
    )
    set_row = set_session if training.warm_start else set_standardisation
    for row, init in enumerate(inits):
        set_row(model, row, init)
    return model


def set_standardisation(model: MetaSSM, row: int, init: SessionInit) -> None:
    """Set the mean and SD by which a session's read-in standardises its counts."""
    units = len(init.mean)
    with torch.no_grad():
        model.readin.mean[row, :units] = torch.as_tensor(init.mean).float()
        model.readin.sd[row, :units] = torch.as_tensor(init.sd).float()


def set_session(model: MetaSSM, row: int, init: SessionInit) -> None:
    """Set a session's row of the read-in and of the likelihood.

    Hidden units beyond the pairs of rectifiers keep a tenth of their random weights.
    """
    units, dim = init.weight.shape
    readin, likelihood = model.readin, model.likelihood
    set_standardisation(model, row, init)
    with torch.no_grad():
        # The read-in sees (y − ȳ) / sd, so W is multiplied by sd: (unit, latent)
        linear = torch.as_tensor((init.projection * init.sd).T).float()
        readin.weight_in[row, :units, : 2 * dim] = torch.cat([linear, -linear], 1)
        readin.weight_out[row, : 2 * dim] = 0.0
        identity = torch.eye(dim)
        readin.weight_out[row, : 2 * dim, :dim] = torch.cat([identity, -identity])
        readin.weight_out[row, 2 * dim :, :dim] *= 0.1
    own = likelihood.initial_own(init.log_var, noise_scale=ANNEALED)
    likelihood.set_session(row, init.weight, init.bias, own)
