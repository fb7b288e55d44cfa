"""Likelihoods p(y | z): linear readouts per session (eq. 10), all sessions in one product.

`likelihood(z, session)` is a distribution over counts: `.log_prob(counts)` per entry, `.mean` in counts per bin;
`likelihood.expected(C z + D)` is that mean.
"""

from __future__ import annotations

from math import log, pi

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.distributions import Distribution, Normal, Poisson
from torch.nn.functional import softplus

HALF_LOG_TWO_PI = 0.5 * log(2 * pi)


class Readout(nn.Module):
    """C z + D for each session, units padded to the largest session."""

    expected = staticmethod(lambda linear: linear)

    def __init__(self, n_sessions: int, n_units: int, latent_dim: int):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(n_sessions, n_units, latent_dim) / latent_dim**0.5)
        self.bias = nn.Parameter(torch.zeros(n_sessions, n_units))

    def linear(
        self, z: Float[Tensor, "session trial time latent"], session: Int[Tensor, " session"]
    ) -> Float[Tensor, "session trial time unit"]:
        out = torch.baddbmm(self.bias[session, None], z.flatten(1, 2), self.weight[session].mT)
        return out.unflatten(1, z.shape[1:3])


class PoissonLikelihood(Readout):
    """y ~ Poisson(exp(C z + D)), counts per bin."""

    expected = staticmethod(torch.exp)

    def forward(self, z: Float[Tensor, "session trial time latent"], session: Int[Tensor, " session"]) -> Distribution:
        return PoissonCounts(self.linear(z, session))


class SoftplusPoissonLikelihood(Readout):
    """y ~ Poisson(log(1 + exp(C z + D))), counts per bin: where they are many, linear in z."""

    expected = staticmethod(softplus)

    def forward(self, z: Float[Tensor, "session trial time latent"], session: Int[Tensor, " session"]) -> Distribution:
        return PoissonCounts(log_softplus(self.linear(z, session)))


def log_softplus(x: Tensor) -> Tensor:
    """log log(1 + exp(x)), which is x to single precision far below 0, where the inner logarithm underflows."""
    return torch.where(x < -20, x, softplus(x.clamp(min=-20)).log())


class PoissonCounts(Poisson):
    """Poisson in terms of its log rate, which keeps log_prob finite where the rate underflows."""

    def __init__(self, log_rate: Tensor):
        self.log_rate = log_rate
        super().__init__(log_rate.exp(), validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        return value * self.log_rate - self.rate - torch.lgamma(value + 1)


class GaussianObservations(Normal):
    """Normal whose log_prob takes few passes over its entries: on a CPU they are most of a step."""

    def __init__(self, mean: Tensor, log_var: Tensor):
        self.half_log_var = 0.5 * log_var
        super().__init__(mean, self.half_log_var.exp(), validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        deviation = (value - self.mean) * (-self.half_log_var).exp()
        return torch.addcmul(-self.half_log_var - HALF_LOG_TWO_PI, deviation, deviation, value=-0.5)


class GaussianLikelihood(Readout):
    """y ~ N(C z + D, diag R), for smoothed counts or continuous observations."""

    def __init__(self, n_sessions: int, n_units: int, latent_dim: int):
        super().__init__(n_sessions, n_units, latent_dim)
        self.log_var = nn.Parameter(torch.zeros(n_sessions, n_units))

    def forward(self, z: Float[Tensor, "session trial time latent"], session: Int[Tensor, " session"]) -> Distribution:
        return GaussianObservations(self.linear(z, session), self.log_var[session, None, None])
