"""From configuration to modules: the only place of this room that reads it."""

from __future__ import annotations

import torch

from metadyn.config import ModelConfig
from metadyn.model.dynamics import Dynamics, InputDynamics, LinearDynamics, LowRankDynamics
from metadyn.model.encoders import EmbeddingEncoder, LatentEncoder
from metadyn.model.likelihood import GaussianLikelihood, PoissonLikelihood
from metadyn.model.meta_ssm import MetaSSM
from metadyn.model.readin import ReadIn

LIKELIHOODS = {"poisson": PoissonLikelihood, "gaussian": GaussianLikelihood}


def build_dynamics(config: ModelConfig) -> Dynamics:
    sizes = (config.latent_dim, config.hidden)
    match config.conditioning:
        case "shared":
            return Dynamics(*sizes)
        case "low_rank":
            return LowRankDynamics(*sizes, config.embedding_dim, config.rank, config.hyper_hidden)
        case "linear":
            return LinearDynamics(*sizes, config.embedding_dim)
        case "input":
            return InputDynamics(*sizes, config.embedding_dim)


def build_model(
    config: ModelConfig,
    n_units: list[int],
    *,
    process_noise: float = 0.002,
    posterior_log_var: float = -4.0,
    seed: int = 0,
) -> MetaSSM:
    """A model of len(n_units) sessions with that many units each; its first weights follow from `seed` alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        dynamics = build_dynamics(config)
        told = config.embedding_dim if dynamics.embedded else 0
        sessions, units = len(n_units), max(n_units)
        features = max(config.readin_dim, config.latent_dim)  # the warm start hands its latents through the features
        hidden = max(config.readin_hidden, 2 * config.latent_dim)  # and carries each through a pair of rectifiers
        return MetaSSM(
            ReadIn(sessions, units, hidden, features),
            EmbeddingEncoder(features, config.embedding_hidden, config.embedding_dim) if told else None,
            LatentEncoder(features, told, config.latent_hidden, config.latent_dim, posterior_log_var),
            dynamics,
            LIKELIHOODS[config.likelihood](sessions, units, config.latent_dim),
            embedding_dim=config.embedding_dim,
            latent_dim=config.latent_dim,
            process_noise=process_noise,
        )
