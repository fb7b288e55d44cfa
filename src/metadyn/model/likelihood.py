"""Likelihoods p(y | z): linear readouts per session (eq. 10), all sessions in one product.

`likelihood(z, session)` is a distribution over counts, of all units or of some: `.log_prob(counts)`
per entry, `.mean` in counts per bin; `likelihood.expected(C z + D)` is that mean;
`likelihood.weighted_log_prob(...)` is the weighted sum that training needs.
"""

from __future__ import annotations

from math import log, pi

import numpy as np
import torch
from jaxtyping import Float, Int, Real
from torch import Tensor, nn
from torch.distributions import Distribution, Normal, Poisson
from torch.nn.functional import logsigmoid, softplus

from metadyn.model.ops.per_session import session_rows
from metadyn.model.ops.weighted_log_prob import EntryWeights, LogProbAndSlope, WeightedLogProb

EVERY = slice(None)
HALF_LOG_TWO_PI = 0.5 * log(2 * pi)
LOG_FACTORIALS = torch.lgamma(
    torch.arange(256, dtype=torch.float64) + 1
)  # of as many counts as a byte tells apart


class Readout(nn.Module):
    """C z + D for each session, units padded to the largest session."""

    expected = staticmethod(lambda linear: linear)
    scored: LogProbAndSlope  # log-likelihood of linear values and its gradients
    further: tuple[str, ...] = ()  # names of parameters (session, unit) beside C and D

    def __init__(self, n_sessions: int, n_units: int, latent_dim: int):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(n_sessions, n_units, latent_dim) / latent_dim**0.5)
        self.bias = nn.Parameter(torch.zeros(n_sessions, n_units))

    def linear(
        self,
        z: Float[Tensor, "session trial time latent"],
        session: Int[Tensor, " session"],
        units: slice = EVERY,
    ) -> Float[Tensor, "session trial time unit"]:
        out = torch.baddbmm(
            self.bias[session, None, units], z.flatten(1, 2), self.weight[session, units].mT
        )
        return out.unflatten(1, z.shape[1:3])

    def of_units(self, row: int, units: Int[np.ndarray, " unit"]) -> Readout:
        """The readout of some units of one session, as a model of these alone has it."""
        own = type(self)(1, len(units), self.weight.shape[-1])
        for name in ("weight", "bias", *self.further):
            setattr(own, name, nn.Parameter(getattr(self, name)[row : row + 1, units].detach()))
        return own

    def weighted_log_prob(
        self,
        z: Float[Tensor, "session trial time latent"],
        session: Int[Tensor, " session"],
        counts: Real[Tensor, "session trial time unit"],
        weight: EntryWeights,
        n_units: tuple[int, ...] | None = None,
    ) -> Float[Tensor, ""]:
        """Σ weight · log p(counts | z); only the first n_units of each session may have a weight
        (None: all may)."""
        parameters = [
            session_rows(getattr(self, name), session) for name in ("weight", "bias", *self.further)
        ]
        points = [each.flatten(1, 2) for each in (counts, *weight, z)]
        return WeightedLogProb.apply(self.scored, n_units, *points, *parameters)


def log_factorial(counts: Tensor) -> Tensor:
    """log y!; on a CPU small ones are looked up, four times as fast."""
    if counts.device.type == "cpu" and counts.numel() and counts.max() < len(LOG_FACTORIALS):
        table = LOG_FACTORIALS.to(counts.dtype)
        return table.index_select(0, counts.int().flatten()).view(counts.shape)
    return torch.lgamma(counts + 1)


def poisson_log_prob_and_slope(
    linear: Tensor, counts: Tensor, weight: Tensor
) -> tuple[Tensor, Tensor]:
    weighted, rate = weight * counts, linear.exp().mul_(weight)
    value = linear.mul_(weighted).sub_(rate).sub_(log_factorial(counts).mul_(weight)).sum()
    return value, weighted.sub_(rate)


def softplus_log_prob_and_slope(
    linear: Tensor, counts: Tensor, weight: Tensor
) -> tuple[Tensor, Tensor]:
    slope = -log_softplus(linear)  # of log rate: sigmoid(linear) / rate
    value, by_log_rate = poisson_log_prob_and_slope(-slope, counts, weight)
    return value, by_log_rate.mul_((slope + logsigmoid(linear)).exp_())


def gaussian_log_prob_and_slope(
    linear: Tensor, counts: Tensor, weight: Tensor, log_var: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    deviation = torch.sub(counts, linear, out=linear)
    weighted, precision = weight * deviation, (-log_var).exp()
    squares, weights = deviation.mul_(weighted).sum(1) * precision, weight.sum(1)  # (session, unit)
    value = -(0.5 * squares + weights * (0.5 * log_var + HALF_LOG_TWO_PI)).sum()
    return value, weighted.mul_(precision[:, None]), 0.5 * (squares - weights)


class PoissonLikelihood(Readout):
    """y ~ Poisson(exp(C z + D)), counts per bin."""

    expected = staticmethod(torch.exp)
    scored = staticmethod(poisson_log_prob_and_slope)

    def forward(
        self,
        z: Float[Tensor, "session trial time latent"],
        session: Int[Tensor, " session"],
        units: slice = EVERY,
    ) -> Distribution:
        return PoissonCounts(self.linear(z, session, units))


class SoftplusPoissonLikelihood(Readout):
    """y ~ Poisson(log(1 + exp(C z + D))), counts per bin: where they are many, linear in z."""

    expected = staticmethod(softplus)
    scored = staticmethod(softplus_log_prob_and_slope)

    def forward(
        self,
        z: Float[Tensor, "session trial time latent"],
        session: Int[Tensor, " session"],
        units: slice = EVERY,
    ) -> Distribution:
        return PoissonCounts(log_softplus(self.linear(z, session, units)))


def log_softplus(x: Tensor) -> Tensor:
    """log log(1 + exp(x)), which is x to single precision far below 0, where the inner logarithm
    underflows."""
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

    scored = staticmethod(gaussian_log_prob_and_slope)
    further = ("log_var",)

    def __init__(self, n_sessions: int, n_units: int, latent_dim: int):
        super().__init__(n_sessions, n_units, latent_dim)
        self.log_var = nn.Parameter(torch.zeros(n_sessions, n_units))

    def forward(
        self,
        z: Float[Tensor, "session trial time latent"],
        session: Int[Tensor, " session"],
        units: slice = EVERY,
    ) -> Distribution:
        return GaussianObservations(
            self.linear(z, session, units), self.log_var[session, None, None, units]
        )
