"""y ~ Poisson(exp(C z + D)): spike counts whose log rate is linear in the latents.

y: spikes of a unit in a bin; z: latent state; C, D: readout of the unit.
Section 3.1 of Vermani et al., arXiv:2410.05454, eq. 10.
"""

from __future__ import annotations

from math import log

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.distributions import Distribution, Poisson

from metadyn.model.likelihoods.base import Likelihood

# log y! of the counts that a byte can hold; this file may be imported while a model is built on
# the meta device, where numbers have no value
LOG_FACTORIALS = torch.lgamma(torch.arange(256, dtype=torch.float64, device="cpu") + 1)


class PoissonCounts(Poisson):
    """Poisson in terms of its log rate, which keeps log_prob finite where the rate underflows."""

    def __init__(self, log_rate: Tensor) -> None:
        """log_rate: of any shape, spikes per bin."""
        self.log_rate = log_rate
        super().__init__(log_rate.exp(), validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """log p(value) = value · log rate − rate − log value!."""
        return value * self.log_rate - self.rate - torch.lgamma(value + 1)


def log_factorial(counts: Tensor) -> Tensor:
    """log y!; on a CPU small ones are looked up, four times as fast."""
    if counts.device.type == "cpu" and counts.numel() and counts.max() < len(LOG_FACTORIALS):
        table = LOG_FACTORIALS.to(counts.dtype)
        return table.index_select(0, counts.int().flatten()).view(counts.shape)
    return torch.lgamma(counts + 1)


def weighted_poisson(
    log_rate: Float[Tensor, "session point unit"],
    y: Float[Tensor, "session point unit"],
    weight: Float[Tensor, "session point unit"],
) -> tuple[Float[Tensor, ""], Float[Tensor, "session point unit"]]:
    """Σ weight · log p(y), which overwrites log_rate, and its gradient weight · (y − rate)."""
    weighted, rate = weight * y, log_rate.exp().mul_(weight)
    value = log_rate.mul_(weighted).sub_(rate).sub_(log_factorial(y).mul_(weight)).sum()
    return value, weighted.sub_(rate)


def spike_gain(
    y: Float[Tensor, "session trial time unit"],
    predicted: Distribution,
    mean: Float[Tensor, "session 1 1 unit"],
    where: Bool[Tensor, "session trial time unit"],
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Poisson log-likelihood [bits] above each unit's mean rate in training, and the spikes."""
    assert isinstance(predicted, PoissonCounts)  # `distribution` of those that use this
    mean = mean.clamp(min=1e-6)
    gain = y * (predicted.log_rate - mean.log()) - (predicted.rate - mean)  # log y! is in both
    return (gain * where).sum() / log(2), (y * where).sum()


class PoissonLikelihood(Likelihood):
    """Spike counts with the exponential link."""

    of_counts = True
    gain = staticmethod(spike_gain)

    @staticmethod
    def expected(linear: Tensor) -> Tensor:
        """exp(C z + D)."""
        return linear.exp()

    @staticmethod
    def distribution(linear: Tensor, *own: Tensor) -> PoissonCounts:
        """Poisson of the rate exp(C z + D)."""
        return PoissonCounts(linear)

    @staticmethod
    def log_prob_and_slope(
        linear: Float[Tensor, "session point unit"],
        y: Float[Tensor, "session point unit"],
        weight: Float[Tensor, "session point unit"],
        *own: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """C z + D is the log rate itself."""
        return weighted_poisson(linear, y, weight)

    @classmethod
    def rate_moments(cls, mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
        """Those of the log-normal distribution."""
        first = (mean + 0.5 * variance).exp()
        return first, first * torch.expm1(variance).sqrt()

    @staticmethod
    def slope_at(mean: Tensor) -> Tensor:
        """exp′ = exp."""
        return mean
