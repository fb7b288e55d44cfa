"""The evidence lower bound (eq. 15), for many sessions at once and without a loop over time."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from metadyn.model.dynamics import Transition
from metadyn.model.gaussian import Gaussian, standard_normal
from metadyn.model.masking import fill
from metadyn.model.meta_ssm import MetaSSM, Observations
from metadyn.model.ops.weighted_log_prob import EntryWeights


@dataclass(frozen=True)
class Targets:
    """What is scored: the weight of each entry's log-likelihood, 0 where there is nothing.

    forecast (session, trial, time): bins whose latent must come from the dynamics; `longest`: the
    most of them in a row, where that is known beforehand.
    """

    weight: EntryWeights
    forecast: Bool[Tensor, "session trial time"]
    longest: int | None = None


@dataclass(frozen=True)
class ElboTerms:
    """Sums over the batch in nats (weight_change: mean of ‖h(e)‖_F), and the sum of the weights."""

    log_likelihood: Tensor
    kl_latent: Tensor
    kl_initial: Tensor
    kl_embedding: Tensor
    weight_change: Tensor
    entries: Tensor

    def elbo(self, kl_weight: float | Tensor = 1.0) -> Tensor:
        return self.log_likelihood - kl_weight * (
            self.kl_latent + self.kl_initial + self.kl_embedding
        )

    def loss(self, kl_weight: float | Tensor, penalty: float) -> Tensor:
        """−ELBO per scored entry plus the penalty on the change of the dynamics (section D.1)."""
        return -self.elbo(kl_weight) / self.entries.clamp(min=1) + penalty * self.weight_change

    def per_entry(self) -> dict[str, Tensor]:
        """The terms per scored entry, for people."""
        names = ("log_likelihood", "kl_latent", "kl_initial", "kl_embedding")
        terms = {name: getattr(self, name).detach() / self.entries.clamp(min=1) for name in names}
        return terms | {"weight_change": self.weight_change.detach()}


def combine_embeddings(
    q: Gaussian, pooling: str, distinct: Bool[Tensor, "session trial"] | None = None
) -> Gaussian:
    """q(e) of each trial (session, trial, embedding) as it is, or one for the trials of a session
    (`mean`, `product`).

    A trial that is not `distinct` tells nothing new in a product (default: all are).
    """
    match pooling:
        case "mean":
            return q.average(1)
        case "product":
            return q.product(1, distinct)
        case _:
            return q


def embedding_of(model: MetaSSM, features: Tensor, seen: Observations, pooling: str) -> Gaussian:
    """q(e) of each trial, or one for the trials of a session: (session, trial or 1, embedding)."""
    return combine_embeddings(model.embedding(features, seen.length), pooling, seen.distinct)


@dataclass(frozen=True)
class PosteriorSample:
    """What may have made a batch: q(e) (session, trial or 1, embedding), q(z), a sample of it
    (session, trial, time, latent), the same with masked bins from the dynamics, and the dynamics of
    the embedding that was drawn."""

    q_e: Gaussian
    q_z: Gaussian
    sample: Float[Tensor, "session trial time latent"]
    z: Float[Tensor, "session trial time latent"]
    transition: Transition


def sample_posterior(
    model: MetaSSM,
    seen: Observations,
    targets: Targets,
    *,
    pooling: str,
    masked: str = "mean",
    generator: torch.Generator | None = None,
) -> PosteriorSample:
    """One sample of embedding and latents; bins that must come from the dynamics are their `mean`
    or a `sample`."""
    features = model.features(seen, generator)
    q_e = embedding_of(model, features, seen, pooling)
    embedding = q_e.sample(generator)
    q_z = model.latents(features, embedding, seen.length)
    transition = model.transition(embedding, seen.session)
    noise = q_z.noise(generator)
    sample = q_z.at(noise)
    z = fill(
        sample, targets.forecast, transition, noise if masked == "sample" else None, targets.longest
    )
    return PosteriorSample(q_e, q_z, sample, z, transition)


def elbo(
    model: MetaSSM,
    drawn: PosteriorSample,
    seen: Observations,
    targets: Targets,
    *,
    masked_kl: bool = False,
) -> ElboTerms:
    """One-sample estimate, of what was drawn. KL terms count bins that the encoders see, masked
    ones only with `masked_kl`."""
    q_e, q_z, z = drawn.q_e, drawn.q_z, drawn.z
    prior = drawn.transition(z[:, :, :-1], slice(1, None))
    kl_latent = Gaussian(q_z.mean[:, :, 1:], q_z.log_var[:, :, 1:]).kl(prior)
    kept = (seen.within & (masked_kl | ~targets.forecast))[:, :, 1:]
    kl_initial = Gaussian(q_z.mean[:, :, 0], q_z.log_var[:, :, 0]).kl(model.initial())
    kl_embedding = q_e.kl(standard_normal(q_e.mean))
    return ElboTerms(
        log_likelihood=model.likelihood.weighted_log_prob(
            z, seen.session, seen.counts, targets.weight, seen.n_units
        ),
        kl_latent=(kl_latent * kept).sum(),
        kl_initial=kl_initial.sum(),
        kl_embedding=kl_embedding.sum(),
        weight_change=drawn.transition.weight_change().mean(),
        entries=targets.weight.sum(),
    )
