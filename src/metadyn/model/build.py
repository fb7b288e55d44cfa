"""From configuration to modules: the only place of this room that reads it."""

from __future__ import annotations

import torch

from metadyn.choices import CONDITIONINGS, FLOWS, class_at, likelihood_at
from metadyn.config import ModelConfig
from metadyn.model.dynamics import Dynamics
from metadyn.model.encoders import EmbeddingEncoder, LatentEncoder
from metadyn.model.likelihoods.base import Likelihood
from metadyn.model.meta_ssm import MetaSSM
from metadyn.model.ops.per_session import declarations
from metadyn.model.readin import ReadIn


def likelihood_of(config: ModelConfig) -> type[Likelihood]:
    """The class of the likelihood with its link."""
    return class_at(likelihood_at(config.likelihood, config.link))


def build_dynamics(config: ModelConfig) -> Dynamics:
    place, _ = FLOWS[config.dynamics]
    flow = class_at(place).from_config(config)
    conditioning = class_at(CONDITIONINGS[config.conditioning]).from_config(config, flow)
    return Dynamics(flow, conditioning)


def build_model(
    config: ModelConfig,
    n_units: list[int],
    *,
    process_noise: float = 0.002,
    posterior_log_var: float = -4.0,
    seed: int = 0,
) -> MetaSSM:
    """A model of len(n_units) sessions with that many units each; its first weights follow from
    `seed` alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        dynamics = build_dynamics(config)
        told = config.embedding_dim if dynamics.embedded else 0
        sessions, units = len(n_units), max(n_units)
        features = max(
            config.readin_dim, config.latent_dim
        )  # the warm start hands its latents through the features
        hidden = max(
            config.readin_hidden, 2 * config.latent_dim
        )  # and carries each through a pair of rectifiers
        readin = ReadIn(n_units, hidden, features, config.readin_dropout)
        return MetaSSM(
            readin,
            EmbeddingEncoder(features, config.embedding_hidden, config.embedding_dim)
            if told
            else None,
            LatentEncoder(
                features, told, config.latent_hidden, config.latent_dim, posterior_log_var
            ),
            dynamics,
            likelihood_of(config)(sessions, units, config.latent_dim),
            embedding_dim=config.embedding_dim,
            latent_dim=config.latent_dim,
            process_noise=process_noise,
            shared_noise=config.shared_noise,
            detach_embedding=config.detach_embedding,
        )


def names_per_session(config: ModelConfig) -> frozenset[str]:
    """The names of the tensors of a model that have one row for each session."""
    with torch.device("meta"):
        declared = declarations(build_model(config, [1]))
    return frozenset(name for name, each in declared.items() if each.per_session)
