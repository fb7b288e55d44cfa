"""y ~ N(C z + D, diag R): continuous observations, such as smoothed counts.

y: value of a unit in a bin; z: latent state; C, D, R: readout and noise variance of the unit.
Section 3.1 of Vermani et al., arXiv:2410.05454, eq. 10.
"""

from __future__ import annotations

from math import log, pi

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.distributions import Distribution, Normal

from metadyn.model.likelihoods.base import Likelihood

HALF_LOG_TWO_PI = 0.5 * log(2 * pi)
TINY = 1e-12  # least sum of squares, of entries that are predicted exactly


class GaussianObservations(Normal):
    """Normal whose log_prob takes few passes over its entries: on a CPU they are most of a step."""

    def __init__(self, mean: Tensor, log_var: Tensor) -> None:
        """mean (session, trial, time, unit), log_var (session, 1, 1, unit)."""
        self.half_log_var = 0.5 * log_var
        super().__init__(mean, self.half_log_var.exp(), validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """log p(value) of each entry."""
        deviation = (value - self.mean) * (-self.half_log_var).exp()
        return torch.addcmul(-self.half_log_var - HALF_LOG_TWO_PI, deviation, deviation, value=-0.5)


class GaussianLikelihood(Likelihood):
    """Continuous observations with one noise variance for each unit."""

    of_counts = False
    own = ("log_var",)

    def __init__(self, n_sessions: int, n_units: int, latent_dim: int) -> None:
        """Noise variance one."""
        super().__init__(n_sessions, n_units, latent_dim)
        self.log_var = nn.Parameter(torch.zeros(n_sessions, n_units))

    @staticmethod
    def expected(linear: Tensor) -> Tensor:
        """C z + D."""
        return linear

    @staticmethod
    def distribution(linear: Tensor, *own: Tensor) -> GaussianObservations:
        """Of mean C z + D and log variance log R."""
        (log_var,) = own
        return GaussianObservations(linear, log_var)

    @staticmethod
    def log_prob_and_slope(
        linear: Float[Tensor, "session point unit"],
        y: Float[Tensor, "session point unit"],
        weight: Float[Tensor, "session point unit"],
        *own: Float[Tensor, "session unit"],
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients by C z + D and by log R."""
        (log_var,) = own
        deviation = torch.sub(y, linear, out=linear)
        weighted, precision = weight * deviation, (-log_var).exp()
        squares, weights = deviation.mul_(weighted).sum(1) * precision, weight.sum(1)
        value = -(0.5 * squares + weights * (0.5 * log_var + HALF_LOG_TWO_PI)).sum()
        return value, weighted.mul_(precision[:, None]), 0.5 * (squares - weights)

    @classmethod
    def rate_moments(cls, mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
        """Those of C z + D itself."""
        return mean, variance.sqrt()

    @staticmethod
    def gain(
        y: Float[Tensor, "session trial time unit"],
        predicted: Distribution,
        mean: Float[Tensor, "session 1 1 unit"],
        where: Bool[Tensor, "session trial time unit"],
    ) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """Log-likelihood [bits] above each unit's mean, and the number of entries.

        Each has its most likely variance, which takes R out of the score: R is the noise round
        known latents; of forecasts it punishes what process noise has done, the more the better R
        is.
        """
        number = where.sum((1, 2)).float()  # (session, unit)
        residual = ((y - predicted.mean) ** 2 * where).sum((1, 2))
        total = ((y - mean) ** 2 * where).sum((1, 2))
        bits = 0.5 * (total.clamp(min=TINY) / residual.clamp(min=TINY)).log2()
        return (number * bits).sum(), number.sum()

    @staticmethod
    def initial_own(
        residual: Float[np.ndarray, " unit"], noise_scale: float
    ) -> dict[str, Float[np.ndarray, " unit"]]:
        """R: what the latents leave, times the scale."""
        return {"log_var": residual + np.log(noise_scale)}

    @staticmethod
    def slope_at(mean: Tensor) -> float:
        """The link is the identity."""
        return 1.0
