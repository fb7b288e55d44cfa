"""p(y, z, e) = p(e) p(z_1) Π_t p(z_t | z_{t-1}, e) p(y_t | z_t), and q(e | y) q(z | y, e).

y: observations; z: latents; e: embedding of a session or trial. Read-in, likelihood and process
noise are each session's own, all else is shared.
Sections 3.1 and 3.2 of Vermani et al., arXiv:2410.05454, eqs. 9-18.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int, Real
from torch import Tensor, nn

from metadyn.model.dynamics import Dynamics, Transition
from metadyn.model.encoders import EmbeddingEncoder, KnownEmbedding, LatentEncoder
from metadyn.model.gaussian import Gaussian, standard_normal
from metadyn.model.likelihoods.base import Likelihood
from metadyn.model.ops.per_session import Declared, session_rows
from metadyn.model.readin import ReadIn, Visible


@dataclass(frozen=True)
class Observations:
    """Trials of some sessions, padded to one number of bins and of units, as encoders get them.

    counts : observations y.
    observed : False in bins in which no unit was observed.
    length : how many bins the encoders see, from the trial's first.
    session : rows of the model's sessions.
    visible : entries that the encoders see; None for all of them.
    distinct : False for a trial that stands there again to fill the batch; None where none does.
    n_units : of each session, without padding; None where no unit is padding.
    """

    counts: Real[Tensor, "session trial time unit"]
    observed: Bool[Tensor, "session trial time"]
    length: Int[Tensor, "session trial"]
    session: Int[Tensor, " session"]
    visible: Visible | None = None
    distinct: Bool[Tensor, "session trial"] | None = None
    n_units: tuple[int, ...] | None = None

    @property
    def within(self) -> Bool[Tensor, "session trial time"]:
        """Bins before `length`, observed or not."""
        time = torch.arange(self.counts.shape[2], device=self.counts.device)
        return time < self.length[..., None]  # (session, trial, time)

    @property
    def seen(self) -> Bool[Tensor, "session trial time"]:
        """Bins that the encoders see."""
        return self.observed & self.within


class InitialState(Declared):
    """p(z_1) = N(mean, diag exp(log_var)), shared by all sessions."""

    decayed = False

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(latent_dim))
        self.log_var = nn.Parameter(torch.zeros(latent_dim))

    def forward(self) -> Gaussian:
        """Of one state, (latent,)."""
        return Gaussian(self.mean, self.log_var)


class MetaSSM(Declared):
    """The meta-dynamical state space model: its parts, and how they follow from one another.

    embedding_encoder : None where the dynamics know no embedding.
    process_noise : first variance of every latent's noise.
    shared_noise : one process noise Q for all sessions.
    detach_embedding : no gradient of q(z) reaches the embedding.
    """

    decayed = False  # the process noise, the one tensor that is its own

    def __init__(
        self,
        readin: ReadIn,
        embedding_encoder: EmbeddingEncoder | None,
        latent_encoder: LatentEncoder,
        dynamics: Dynamics,
        likelihood: Likelihood,
        *,
        embedding_dim: int,
        latent_dim: int,
        process_noise: float,
        shared_noise: bool = False,
        detach_embedding: bool = False,
    ) -> None:
        super().__init__()
        self.readin = readin
        self.likelihood = likelihood
        self.embedding_encoder: EmbeddingEncoder | KnownEmbedding | None = embedding_encoder
        self.latent_encoder = latent_encoder
        self.dynamics = dynamics
        self.initial = InitialState(latent_dim)
        self.embedding_dim = embedding_dim
        self.latent_dim = latent_dim
        self.detach_embedding = detach_embedding
        self.shared_noise = shared_noise
        self.n_sessions = len(readin.weight_in)
        rows = 1 if shared_noise else self.n_sessions
        # Log variances Q, (session or 1, latent)
        self.log_q = nn.Parameter(torch.full((rows, latent_dim), process_noise).log())

    def per_session_names(self) -> tuple[str, ...]:
        """The process noise, unless all sessions share it."""
        return () if self.shared_noise else ("log_q",)

    def features(
        self, seen: Observations, generator: torch.Generator | None = None
    ) -> Float[Tensor, "session trial time feature"]:
        """ȳ = Ω(y) (eq. 16); zero where nothing was observed.

        With a generator, as in training, hidden units of the read-in drop out.
        """
        features = self.readin(
            seen.counts, seen.session, generator, visible=seen.visible, n_units=seen.n_units
        )
        return features * seen.seen[..., None]

    def embedding(
        self,
        features: Float[Tensor, "session trial time feature"],
        length: Int[Tensor, "session trial"],
    ) -> Gaussian:
        """q(e | y) of each trial (eq. 17), (session, trial, embedding).

        The prior where the dynamics know no embedding.
        """
        if self.embedding_encoder is None:
            return standard_normal(features.new_zeros(*features.shape[:2], self.embedding_dim))
        # The encoders take trials of all sessions as (sequence, time, feature).
        q = self.embedding_encoder(features.flatten(0, 1), length.flatten())
        return by_session(q, length)

    def latents(
        self,
        features: Float[Tensor, "session trial time feature"],
        embedding: Float[Tensor, "session trial_or_1 embedding"],
        length: Int[Tensor, "session trial"],
    ) -> Gaussian:
        """q(z_t | y, e) of each bin (eq. 18), (session, trial, time, latent)."""
        embedding = embedding.detach() if self.detach_embedding else embedding
        # Without an embedding, the encoder sees one of no dimensions.
        given = embedding if self.dynamics.embedded else embedding[..., :0]
        given = given.expand(*length.shape, -1)  # (session, trial, embedding)
        q = self.latent_encoder(features.flatten(0, 1), given.flatten(0, 1), length.flatten())
        return by_session(q, length)

    def transition(
        self,
        embedding: Float[Tensor, "session trial_or_1 embedding"],
        session: Int[Tensor, " session"],
    ) -> Transition:
        """p(z_t | z_{t-1}, e) of these sessions, with each one's process noise (eqs. 9 and 12)."""
        if len(self.log_q) == self.n_sessions:
            return self.dynamics(embedding, session_rows(self.log_q, session))
        # One row that all sessions share
        return self.dynamics(embedding, self.log_q.expand(self.n_sessions, -1)[session])


def by_session(q: Gaussian, length: Int[Tensor, "session trial"]) -> Gaussian:
    """Gaussians of all trials in a row, (session * trial, …), as (session, trial, …)."""
    return Gaussian(q.mean.unflatten(0, length.shape), q.log_var.unflatten(0, length.shape))
