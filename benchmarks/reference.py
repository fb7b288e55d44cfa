"""The model as one would first write it, to measure against: a loop over sessions, and inside it a
loop over bins.

Each session has modules of its own, the encoders are `torch.nn.GRU`, and a masked bin is filled
when the loop reaches it. It is the paper's model (low-rank conditioning of two layers, one
embedding a session from the mean of its trials' posteriors, process noise per session) on whole
windows of one length without gaps. Weights are those of a `MetaSSM`, random numbers are drawn in
the same order, so that ELBO and gradients are the same (tests/benchmarks/test_reference.py).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.distributions import Normal, Poisson, kl_divergence

from metadyn.config import ModelConfig
from metadyn.model.elbo import ElboTerms
from metadyn.model.meta_ssm import MetaSSM
from metadyn.model.ops.per_session import Declaration


def normal(mean: Tensor, log_var: Tensor) -> Normal:
    return Normal(mean, (log_var / 2).exp(), validate_args=False)


class ReadIn(nn.Module):
    """Ω: two layers from the units of one session to shared features."""

    def __init__(self, n_units: int, hidden: int, features: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(n_units))
        self.register_buffer("sd", torch.ones(n_units))
        self.input, self.output = nn.Linear(n_units, hidden), nn.Linear(hidden, features)

    def forward(self, counts: Tensor, kept: Tensor | None) -> Tensor:
        """counts (trial, time, unit) → (trial, time, feature); kept (trial, time, hidden): factors
        of dropout, None without."""
        hidden = torch.relu(self.input((counts - self.mean) / self.sd))
        return self.output(hidden if kept is None else hidden * kept)


class PoissonReadout(nn.Module):
    """y ~ Poisson(exp(C z + D)) for the units of one session."""

    def __init__(self, latent_dim: int, n_units: int):
        super().__init__()
        self.linear = nn.Linear(latent_dim, n_units)

    def forward(self, z: Tensor) -> Poisson:
        return Poisson(self.linear(z).exp(), validate_args=False)


class GaussianReadout(nn.Module):
    """y ~ N(C z + D, diag R) for the units of one session."""

    def __init__(self, latent_dim: int, n_units: int):
        super().__init__()
        self.linear = nn.Linear(latent_dim, n_units)
        self.log_var = nn.Parameter(torch.zeros(n_units))

    def forward(self, z: Tensor) -> Normal:
        return normal(self.linear(z), self.log_var)


READOUTS = {"poisson": PoissonReadout, "gaussian": GaussianReadout}


class Session(nn.Module):
    """What a session has of its own."""

    def __init__(self, config: ModelConfig, n_units: int):
        super().__init__()
        self.readin = ReadIn(
            n_units, max(config.readin_hidden, 2 * config.latent_dim), features_of(config)
        )
        self.likelihood = READOUTS[config.likelihood](config.latent_dim, n_units)
        self.log_q = nn.Parameter(torch.zeros(config.latent_dim))


def features_of(config: ModelConfig) -> int:
    return max(config.readin_dim, config.latent_dim)


class EmbeddingEncoder(nn.Module):
    """q(e | y): the last state of a GRU, mean and variance averaged over the trials of a
    session."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.gru = nn.GRU(features_of(config), config.embedding_hidden, batch_first=True)
        self.head = nn.Linear(config.embedding_hidden, 2 * config.embedding_dim)

    def forward(self, features: Tensor) -> Normal:
        """features (trial, time, feature) → a distribution of e (embedding,)."""
        _, last = self.gru(features)
        mean, log_var = self.head(last[0]).chunk(2, -1)
        return normal(mean.mean(0), log_var.exp().mean(0).log())


class LatentEncoder(nn.Module):
    """q(z_t | y, e): a GRU in both directions over features and embedding."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        inputs = features_of(config) + config.embedding_dim
        self.gru = nn.GRU(inputs, config.latent_hidden, batch_first=True, bidirectional=True)
        self.head = nn.Linear(2 * config.latent_hidden, 2 * config.latent_dim)

    def forward(self, features: Tensor, embedding: Tensor) -> Normal:
        """features (trial, time, feature), embedding (embedding,) → a distribution of z (trial,
        time, latent)."""
        told = embedding.expand(*features.shape[:2], -1)
        states, _ = self.gru(torch.cat([features, told], -1))
        return normal(*self.head(states).chunk(2, -1))


class Dynamics(nn.Module):
    """f(z) = W_o tanh(W_hh tanh(W_in z + b) + b') + b''; a hypernetwork adds low-rank changes to
    W_in and W_hh."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        (first, second), latent, width = config.hidden, config.latent_dim, config.hyper_hidden
        self.input, self.hidden, self.output = (
            nn.Linear(latent, first),
            nn.Linear(first, second),
            nn.Linear(second, latent),
        )
        self.rank, self.sizes = (
            config.rank,
            [config.rank * size for size in (first, latent, second, first)],
        )
        self.hyper = nn.Sequential(
            nn.Linear(config.embedding_dim, width),
            nn.Tanh(),
            nn.Linear(width, width),
            nn.Tanh(),
            nn.Linear(width, sum(self.sizes)),
        )

    def changes(self, embedding: Tensor) -> tuple[Tensor, Tensor]:
        """embedding (embedding,) → U Vᵀ of W_in (first, latent) and of W_hh (second, first)."""
        u_in, v_in, u_hidden, v_hidden = (
            part.view(-1, self.rank) for part in self.hyper(embedding).split(self.sizes)
        )
        return u_in @ v_in.T, u_hidden @ v_hidden.T

    def changed(self, changes: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """The weights of the three layers under these changes, transposed (in, out): once, not in
        every bin."""
        return (
            (self.input.weight + changes[0]).T,
            (self.hidden.weight + changes[1]).T,
            self.output.weight.T,
        )

    def forward(self, z: Tensor, weights: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """z (trial, latent) → the mean of the next z under weights that were `changed`."""
        first = torch.tanh(torch.addmm(self.input.bias, z, weights[0]))
        second = torch.tanh(torch.addmm(self.hidden.bias, first, weights[1]))
        return torch.addmm(self.output.bias, second, weights[2])


class Initial(nn.Module):
    """p(z_1), shared by all sessions."""

    def __init__(self, latent_dim: int):
        super().__init__()
        self.mean, self.log_var = (
            nn.Parameter(torch.zeros(latent_dim)),
            nn.Parameter(torch.zeros(latent_dim)),
        )


@dataclass(frozen=True)
class RandomNumbers:
    """Factors of the read-in's dropout, kept (session, trial, time, hidden) or None for each
    session; standard normal numbers, embedding (session, embedding) and latent (session, trial,
    time, latent)."""

    kept: Tensor | list[None]
    embedding: Tensor
    latent: Tensor


class Reference(nn.Module):
    """The model of sessions with `n_units` units each."""

    def __init__(self, config: ModelConfig, n_units: list[int]):
        super().__init__()
        self.config = config
        self.sessions = nn.ModuleList(Session(config, units) for units in n_units)
        self.embedding_encoder, self.latent_encoder = (
            EmbeddingEncoder(config),
            LatentEncoder(config),
        )
        self.dynamics, self.initial = Dynamics(config), Initial(config.latent_dim)

    def random_numbers(self, trials: int, bins: int, generator: torch.Generator) -> RandomNumbers:
        """The sample of `metadyn.model.elbo.sample_posterior`, of the same batch and generator."""
        drawing = {"generator": generator, "device": generator.device}
        like = drawing | {"dtype": self.initial.mean.dtype}
        sessions, share, kept = (
            len(self.sessions),
            self.config.readin_dropout,
            [None] * len(self.sessions),
        )
        if share:
            hidden = self.sessions[0].readin.input.out_features
            kept = (torch.rand(sessions, trials, bins, hidden, **drawing) >= share).to(
                like["dtype"]
            ) / (1 - share)
        embedding = torch.randn(sessions, self.config.embedding_dim, **like)
        return RandomNumbers(
            kept, embedding, torch.randn(sessions, trials, bins, self.config.latent_dim, **like)
        )

    def elbo(self, counts: list[Tensor], masked: Tensor, numbers: RandomNumbers) -> ElboTerms:
        """counts: (trial, time, unit) of each session; masked (session, trial, time): bins that
        come from the dynamics."""
        of_sessions = [
            self.session_terms(*each)
            for each in zip(
                self.sessions,
                counts,
                masked,
                numbers.kept,
                numbers.embedding,
                numbers.latent,
                strict=True,
            )
        ]
        *sums, change = map(sum, zip(*of_sessions, strict=True))
        return ElboTerms(
            *sums, change / len(counts), torch.tensor(sum(each.numel() for each in counts))
        )

    def session_terms(
        self, session: Session, counts, masked, kept, noise_e, noise_z
    ) -> tuple[Tensor, ...]:
        """Log-likelihood, KL of z_t, of z_1 and of e in nats, and ‖h(e)‖_F of one session."""
        features = session.readin(counts, kept)
        q_e = self.embedding_encoder(features)
        e = q_e.mean + q_e.stddev * noise_e
        q_z = self.latent_encoder(features, e.detach() if self.config.detach_embedding else e)
        changes = self.dynamics.changes(e)
        z, ahead = self.latents(q_z.mean + q_z.stddev * noise_z, masked, changes)

        log_likelihood = session.likelihood(z).log_prob(counts).sum()
        later = Normal(q_z.mean[:, 1:], q_z.stddev[:, 1:], validate_args=False)
        kl_latent = kl_divergence(later, normal(ahead, session.log_q)).sum(-1)
        first = Normal(q_z.mean[:, 0], q_z.stddev[:, 0], validate_args=False)
        kl_initial = kl_divergence(first, normal(self.initial.mean, self.initial.log_var))
        kl_embedding = kl_divergence(q_e, normal(torch.zeros_like(e), torch.zeros_like(e)))
        change = sum((each**2).sum() for each in changes).sqrt()
        return (
            log_likelihood,
            (kl_latent * ~masked[:, 1:]).sum(),
            kl_initial.sum(),
            kl_embedding.sum(),
            change,
        )

    def latents(
        self, sample: Tensor, masked: Tensor, changes: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """z (trial, time, latent), a masked bin being where the dynamics lead, and where they lead
        from each bin but the last.

        sample (trial, time, latent) of q(z); masked (trial, time), False in the first bin.
        """
        weights = self.dynamics.changed(changes)
        first, *later = sample.unbind(1)
        z, ahead = [first], []
        in_some_trial = masked[:, 1:].any(0).tolist()
        for drawn, is_masked, needed in zip(
            later, masked[:, 1:, None].unbind(1), in_some_trial, strict=True
        ):
            ahead.append(self.dynamics(z[-1], weights))
            z.append(torch.where(is_masked, ahead[-1], drawn) if needed else drawn)
        return torch.stack(z, 1), torch.stack(ahead, 1)


SPARED = ("likelihood.", "log_q", "initial.", "bias")  # parts of names of weights without decay


def declared_of(reference: Reference) -> dict[str, Declaration]:
    """How the optimiser treats each parameter."""
    names = dict(reference.named_parameters())
    return {name: Declaration(decayed=not any(part in name for part in SPARED)) for name in names}


def from_model(model: MetaSSM, config: ModelConfig, n_units: list[int]) -> Reference:
    """A reference with a copy of the model's weights, on its device and in its precision."""
    reference = Reference(config, n_units).to(model.log_q)
    reference.load_state_dict(rearranged(model.state_dict(), n_units))
    return reference


SHARED = {  # by the name in MetaSSM, the name here
    f"dynamics.flow.{theirs}.{kind}": f"dynamics.{layer}.{kind}"
    for theirs, layer in (("first", "input"), ("hidden", "hidden"), ("output", "output"))
    for kind in ("weight", "bias")
}
OWN = {  # of one session: the name here, and the name in MetaSSM, whose rows are sessions
    "readin.mean": "readin.mean",
    "readin.sd": "readin.sd",
    "readin.input.weight": "readin.weight_in",
    "readin.input.bias": "readin.bias_in",
    "readin.output.weight": "readin.weight_out",
    "readin.output.bias": "readin.bias_out",
    "likelihood.linear.weight": "likelihood.weight",
    "likelihood.linear.bias": "likelihood.bias",
    "likelihood.log_var": "likelihood.log_var",
    "log_q": "log_q",
}
OF_UNITS = ("readin.mean", "readin.sd", "readin.weight_in", "likelihood.")  # rows of units, padded
TRANSPOSED = ("readin.weight_in", "readin.weight_out")


def rearranged(values: dict[str, Tensor], n_units: list[int]) -> dict[str, Tensor]:
    """Values by the names and in the shapes of a MetaSSM's parameters and buffers, by those of a
    Reference."""
    shared = {renamed(name): value for name, value in values.items() if name not in OWN.values()}
    for row, units in enumerate(n_units):
        for name, source in OWN.items():
            if source in values:
                value = values[source][row]
                value = value[:units] if source.startswith(OF_UNITS) else value
                shared[f"sessions.{row}.{name}"] = value.T if source in TRANSPOSED else value
    return shared


def renamed(name: str) -> str:
    """The name here of what sessions share."""
    if name.startswith("latent_encoder.backward_gru."):
        return name.replace("backward_gru", "gru") + "_reverse"
    plain = name.replace("forward_gru", "gru").replace("dynamics.conditioning.", "dynamics.")
    return SHARED.get(name, plain)
