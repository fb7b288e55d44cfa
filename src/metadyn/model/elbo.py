"""ELBO = E_q[Σ_t log p(y_t | z_t)] − KL(q(z_1) ‖ p(z_1)) − Σ_t KL(q(z_t) ‖ p(z_t | z_{t−1}, e))
− KL(q(e) ‖ p(e)).

y: observations; z: latents; e: embedding. One sample of z and e stands for the expectations, of
many sessions at once and without a loop over time.
Eq. 15 of Vermani et al., arXiv:2410.05454; appendix D.1 for masked bins and the penalty.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from metadyn.model.dynamics import Transition
from metadyn.model.gaussian import Gaussian, standard_normal
from metadyn.model.masking import fill_masked
from metadyn.model.meta_ssm import MetaSSM, Observations
from metadyn.model.ops.weighted_log_prob import EntryWeights


@dataclass(frozen=True)
class Targets:
    """The entries that are scored, and the bins whose latent must come from the dynamics.

    weight : of each entry's log-likelihood, 0 where there is nothing.
    forecast : bins whose latent must come from the dynamics.
    longest : the most of those in a row, where that is known beforehand.
    """

    weight: EntryWeights
    forecast: Bool[Tensor, "session trial time"]
    longest: int | None = None


@dataclass(frozen=True)
class ElboTerms:
    """Terms of the ELBO as sums over a batch, in nats.

    weight_change : mean over embeddings of the norm of what they change in the dynamics.
    entries : sum of the weights of the scored entries.
    """

    log_likelihood: Tensor
    kl_latent: Tensor
    kl_initial: Tensor
    kl_embedding: Tensor
    weight_change: Tensor
    entries: Tensor

    def elbo(self, kl_weight: float | Tensor = 1.0) -> Tensor:
        """The ELBO, or with another weight of its KL terms what training begins with."""
        kl = self.kl_latent + self.kl_initial + self.kl_embedding
        return self.log_likelihood - kl_weight * kl

    def loss(self, kl_weight: float | Tensor, penalty: float) -> Tensor:
        """−ELBO per scored entry, plus the penalty on the change of the dynamics (appendix D.1)."""
        return -self.elbo(kl_weight) / self.entries.clamp(min=1) + penalty * self.weight_change

    def per_entry(self) -> dict[str, Tensor]:
        """The terms per scored entry, for reports."""
        names = ("log_likelihood", "kl_latent", "kl_initial", "kl_embedding")
        terms = {name: getattr(self, name).detach() / self.entries.clamp(min=1) for name in names}
        return terms | {"weight_change": self.weight_change.detach()}


def combine_embeddings(
    q: Gaussian, pooling: str, distinct: Bool[Tensor, "session trial"] | None = None
) -> Gaussian:
    """q(e) of each trial as it is (`trial`), or one for a session's trials (`mean`, `product`).

    q : (session, trial, embedding).
    distinct : trials that count in a product, which a trial that stands there twice would sharpen;
    None where all do.

    Returns (session, trial or 1, embedding).

    >>> trials = Gaussian(torch.tensor([[[0.0], [2.0]]]), torch.zeros(1, 2, 1))
    >>> combine_embeddings(trials, "mean").mean
    tensor([[[1.]]])
    """
    match pooling:
        case "mean":
            return q.average(1)
        case "product":
            return q.product(1, distinct)
        case _:
            return q


def embedding_of(
    model: MetaSSM,
    features: Float[Tensor, "session trial time feature"],
    seen: Observations,
    pooling: str,
) -> Gaussian:
    """q(e) of each trial, or one for the trials of a session: (session, trial or 1, embedding)."""
    return combine_embeddings(model.embedding(features, seen.length), pooling, seen.distinct)


@dataclass(frozen=True)
class PosteriorSample:
    """One sample of embedding and latents, and the distributions that it is of.

    q_e : (session, trial or 1, embedding).
    q_z : (session, trial, time, latent).
    sample : of q_z.
    z : the same, with latents of the dynamics in the bins that must have them.
    transition : the dynamics of the sampled embedding.
    """

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
    """Sample q(e) and q(z).

    masked : whether bins whose latent comes from the dynamics get their "mean" or a "sample".
    """
    features = model.features(seen, generator)  # (session, trial, time, feature)
    q_e = embedding_of(model, features, seen, pooling)
    embedding = q_e.sample(generator)  # (session, trial or 1, embedding)
    q_z = model.latents(features, embedding, seen.length)
    transition = model.transition(embedding, seen.session)
    noise = q_z.noise(generator)  # (session, trial, time, latent)
    sample = q_z.at(noise)  # z ~ q(z), a differentiable function of mean and variance
    of_masked = noise if masked == "sample" else None
    z = fill_masked(sample, targets.forecast, transition, of_masked, targets.longest)
    return PosteriorSample(q_e, q_z, sample, z, transition)


def elbo(
    model: MetaSSM,
    sample: PosteriorSample,
    seen: Observations,
    targets: Targets,
    *,
    masked_kl: bool = False,
) -> ElboTerms:
    """The terms of one sample.

    KL terms count bins that the encoders see; masked ones among them only with `masked_kl`.
    """
    q_e, q_z, z = sample.q_e, sample.q_z, sample.z
    # p(z_t | z_{t−1}) of all bins but the first: (session, trial, time − 1, latent)
    prior = sample.transition(z[:, :, :-1], slice(1, None))
    kl_latent = Gaussian(q_z.mean[:, :, 1:], q_z.log_var[:, :, 1:]).kl(prior)
    # Bins without a posterior of their own have no KL term.
    kept = (seen.within & (masked_kl | ~targets.forecast))[:, :, 1:]
    kl_initial = Gaussian(q_z.mean[:, :, 0], q_z.log_var[:, :, 0]).kl(model.initial())
    kl_embedding = q_e.kl(standard_normal(q_e.mean))
    log_likelihood = model.likelihood.weighted_log_prob(
        z, seen.session, seen.counts, targets.weight, seen.n_units
    )
    return ElboTerms(
        log_likelihood=log_likelihood,
        kl_latent=(kl_latent * kept).sum(),
        kl_initial=kl_initial.sum(),
        kl_embedding=kl_embedding.sum(),
        weight_change=sample.transition.weight_change().mean(),
        entries=targets.weight.sum(),
    )
