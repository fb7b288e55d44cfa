"""From a configuration to a model: the sizes of its parts, and their first weights.

Sizes as in appendix D.3 of Vermani et al., arXiv:2410.05454; the room reads the configuration here
and in `from_config` of each flow and conditioning, and nowhere else.
"""

from __future__ import annotations

import torch

from metadyn.choices import CONDITIONINGS, FLOWS, class_at, likelihood_at
from metadyn.config import ModelConfig
from metadyn.model.conditioning.base import Conditioning
from metadyn.model.dynamics import Dynamics
from metadyn.model.encoders import EmbeddingEncoder, LatentEncoder
from metadyn.model.flows.base import Flow
from metadyn.model.likelihoods.base import Likelihood
from metadyn.model.meta_ssm import MetaSSM
from metadyn.model.ops.per_session import declarations
from metadyn.model.readin import ReadIn


def flow_class(config: ModelConfig) -> type[Flow]:
    """The family of the dynamics."""
    place, _ = FLOWS[config.dynamics]
    return class_at(place)


def conditioning_class(config: ModelConfig) -> type[Conditioning]:
    """How an embedding changes the dynamics."""
    return class_at(CONDITIONINGS[config.conditioning])


def likelihood_of(config: ModelConfig) -> type[Likelihood]:
    """The class of the likelihood with its link."""
    return class_at(likelihood_at(config.likelihood, config.link))


def build_dynamics(config: ModelConfig) -> Dynamics:
    """A flow and its conditioning, their first weights from torch's global generator."""
    flow = flow_class(config).from_config(config)
    return Dynamics(flow, conditioning_class(config).from_config(config, flow))


def build_model(
    config: ModelConfig,
    n_units: list[int],
    *,
    process_noise: float = 0.002,
    posterior_log_var: float = -4.0,
    seed: int = 0,
) -> MetaSSM:
    """A model of as many sessions as `n_units` has numbers, with that many units each.

    process_noise : first variance of the process noise.
    posterior_log_var : first log variance of q(z).
    seed : the one thing that the first weights follow from.

    >>> model = build_model(ModelConfig(latent_dim=3), n_units=[20, 31])
    >>> model.n_sessions, model.likelihood.weight.shape
    (2, torch.Size([2, 31, 3]))
    """
    # torch's generator is the caller's again afterwards.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        dynamics = build_dynamics(config)
        # Where nothing depends on an embedding, no encoder sees or infers one.
        seen_embedding = config.embedding_dim if dynamics.embedded else 0
        # The warm start hands the latents on through the features,
        features = max(config.readin_dim, config.latent_dim)
        # and carries each through a pair of rectifiers.
        hidden = max(config.readin_hidden, 2 * config.latent_dim)
        readin = ReadIn(n_units, hidden, features, config.readin_dropout)
        embedding_encoder = (
            EmbeddingEncoder(features, config.embedding_hidden, config.embedding_dim)
            if dynamics.embedded
            else None
        )
        latent_encoder = LatentEncoder(
            features, seen_embedding, config.latent_hidden, config.latent_dim, posterior_log_var
        )
        likelihood = likelihood_of(config)(len(n_units), max(n_units), config.latent_dim)
        return MetaSSM(
            readin,
            embedding_encoder,
            latent_encoder,
            dynamics,
            likelihood,
            embedding_dim=config.embedding_dim,
            latent_dim=config.latent_dim,
            process_noise=process_noise,
            shared_noise=config.shared_noise,
            detach_embedding=config.detach_embedding,
        )


def names_per_session(config: ModelConfig) -> frozenset[str]:
    """The names of the tensors of a model that have one row for each session."""
    with torch.device("meta"):  # names and sizes, without memory
        declared = declarations(build_model(config, [1]))
    return frozenset(name for name, each in declared.items() if each.per_session)
