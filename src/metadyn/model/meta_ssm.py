"""The meta-dynamical state space model: the parts put together (sections 3.1 and 3.2)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int, Real
from torch import Tensor, nn

from metadyn.model.dynamics import Dynamics, Transition
from metadyn.model.encoders import EmbeddingEncoder, LatentEncoder
from metadyn.model.gaussian import Gaussian, standard_normal
from metadyn.model.likelihoods.base import Likelihood
from metadyn.model.ops.per_session import Declared, session_rows
from metadyn.model.readin import ReadIn, Visible


@dataclass(frozen=True)
class Observations:
    """What the encoders may see of some sessions; windows are padded to one length, units to one
    number.

    counts (session, trial, time, unit); observed (session, trial, time) False where no unit was
    observed; length (session, trial): bins that the encoders see, from the window's first; session:
    rows of the model's sessions; visible: entries shown to the encoders (None: all); distinct
    (session, trial): False for a trial that stands there again to fill the batch (None: all are
    distinct); n_units: how many are no padding (None: all).
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
        """Bins of the context, observed or not."""
        return (
            torch.arange(self.counts.shape[2], device=self.counts.device) < self.length[..., None]
        )

    @property
    def seen(self) -> Bool[Tensor, "session trial time"]:
        """Bins that the encoders see."""
        return self.observed & self.within


class Initial(Declared):
    """p(z_1) = N(mean, diag exp(log_var)), shared by all sessions."""

    decayed = False

    def __init__(self, latent_dim: int):
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(latent_dim))
        self.log_var = nn.Parameter(torch.zeros(latent_dim))

    def forward(self) -> Gaussian:
        return Gaussian(self.mean, self.log_var)


class MetaSSM(Declared):
    """Session-specific read-in, likelihood and process noise round one set of encoders and
    conditioned dynamics."""

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
    ):
        super().__init__()
        self.readin, self.likelihood = readin, likelihood
        self.embedding_encoder, self.latent_encoder = embedding_encoder, latent_encoder
        self.dynamics, self.initial = dynamics, Initial(latent_dim)
        self.embedding_dim, self.latent_dim = embedding_dim, latent_dim
        self.detach_embedding, self.n_sessions = detach_embedding, readin.mean.shape[0]
        self.shared_noise = shared_noise
        self.log_q = nn.Parameter(
            torch.full((1 if shared_noise else self.n_sessions, latent_dim), process_noise).log()
        )

    def per_session_names(self) -> tuple[str, ...]:
        """The process noise, unless all sessions share it."""
        return () if self.shared_noise else ("log_q",)

    def features(
        self, seen: Observations, generator: torch.Generator | None = None
    ) -> Float[Tensor, "session trial time feature"]:
        """ȳ = Ω(y); zero where nothing was observed. A generator, as training has it, brings the
        read-in's dropout."""
        features = self.readin(
            seen.counts, seen.session, generator, visible=seen.visible, n_units=seen.n_units
        )
        return features * seen.seen[..., None]

    def embedding(
        self,
        features: Float[Tensor, "session trial time feature"],
        length: Int[Tensor, "session trial"],
    ) -> Gaussian:
        """q(e | y) of each trial, (session, trial, embedding); the prior where the dynamics know no
        embedding."""
        if self.embedding_encoder is None:
            return standard_normal(features.new_zeros(*features.shape[:2], self.embedding_dim))
        q = self.embedding_encoder(features.flatten(0, 1), length.flatten())
        return Gaussian(q.mean.unflatten(0, length.shape), q.log_var.unflatten(0, length.shape))

    def latents(
        self,
        features: Float[Tensor, "session trial time feature"],
        embedding: Float[Tensor, "session trial_or_1 embedding"],
        length: Int[Tensor, "session trial"],
    ) -> Gaussian:
        """q(z_t | y, e) of each bin, (session, trial, time, latent); with `detach_embedding`, e
        learns nothing from it."""
        embedding = embedding.detach() if self.detach_embedding else embedding
        told = (embedding if self.dynamics.embedded else embedding[..., :0]).expand(
            *length.shape, -1
        )
        q = self.latent_encoder(features.flatten(0, 1), told.flatten(0, 1), length.flatten())
        return Gaussian(q.mean.unflatten(0, length.shape), q.log_var.unflatten(0, length.shape))

    def transition(
        self, embedding: Float[Tensor, "session trial embedding"], session: Int[Tensor, " session"]
    ) -> Transition:
        """p(z_t | z_{t-1}, e) with each session's process noise, or the one that they share."""
        if len(self.log_q) == self.n_sessions:
            return self.dynamics(embedding, session_rows(self.log_q, session))
        return self.dynamics(embedding, self.log_q.expand(self.n_sessions, -1)[session])
