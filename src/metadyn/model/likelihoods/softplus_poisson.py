"""y ~ Poisson(log(1 + exp(C z + D))): spike counts that are linear in the latents where many.

y: spikes of a unit in a bin; z: latent state; C, D: readout of the unit.
The softplus in place of the exponential of eq. 10 of Vermani et al., arXiv:2410.05454.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from scipy.special import expit
from torch import Tensor
from torch.nn.functional import logsigmoid, softplus

from metadyn.model.likelihoods.base import NODES, Likelihood, Readout
from metadyn.model.likelihoods.poisson import PoissonCounts, spike_gain, weighted_poisson


def log_softplus(x: Tensor) -> Tensor:
    """log log(1 + exp(x)).

    Far below 0, where the inner logarithm underflows, that is x to single precision.
    """
    return torch.where(x < -20, x, softplus(x.clamp(min=-20)).log())


class SoftplusPoissonLikelihood(Likelihood):
    """Spike counts with the softplus link."""

    of_counts = True
    gain = staticmethod(spike_gain)

    @staticmethod
    def expected(linear: Tensor) -> Tensor:
        """log(1 + exp(C z + D))."""
        return softplus(linear)

    @staticmethod
    def distribution(linear: Tensor, *own: Tensor) -> PoissonCounts:
        """Poisson of that rate."""
        return PoissonCounts(log_softplus(linear))

    @staticmethod
    def log_prob_and_slope(
        linear: Float[Tensor, "session point unit"],
        y: Float[Tensor, "session point unit"],
        weight: Float[Tensor, "session point unit"],
        *own: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """By the chain rule: d log rate / d linear = sigmoid(linear) / rate."""
        minus_log_rate = -log_softplus(linear)
        value, by_log_rate = weighted_poisson(-minus_log_rate, y, weight)
        return value, by_log_rate.mul_((minus_log_rate + logsigmoid(linear)).exp_())

    @staticmethod
    def initial_readout(
        weight: Float[np.ndarray, "unit latent"],
        bias: Float[np.ndarray, " unit"],
        mean: Float[np.ndarray, " unit"],
    ) -> Readout:
        """The readout of exp(C z + D) as one of the softplus.

        C: over z ~ N(0, I) the exponential's mean slope is mean * C; the softplus has the slope
        1 − exp(−mean) where it is `mean`. D: the mean over z stays, by Newton steps on a convex
        function from above, with Gauss-Hermite quadrature.
        """
        weight = weight * (mean / -np.expm1(-mean))[:, None]
        nodes, shares = np.polynomial.hermite_e.hermegauss(NODES)
        shares = shares / shares.sum()
        offsets = np.linalg.norm(weight, axis=1)[:, None] * nodes  # (unit, node)
        bias = mean + np.log(-np.expm1(-mean))
        for _ in range(20):
            linear = bias[:, None] + offsets
            excess = np.logaddexp(0, linear) @ shares - mean
            bias = bias - excess / (expit(linear) @ shares)
        return weight, bias

    @staticmethod
    def slope_at(mean: Tensor) -> Tensor:
        """sigmoid(C z + D) = 1 − exp(−softplus(C z + D))."""
        return -torch.expm1(-mean)
