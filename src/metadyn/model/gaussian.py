"""Gaussians with diagonal covariance: q(e), q(z), the transition and the priors."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from metadyn.model.ops.random import draw_for_sessions


@dataclass(frozen=True)
class Gaussian:
    """N(mean, diag exp(log_var)); both broadcast to (..., dimension)."""

    mean: Tensor
    log_var: Tensor

    @property
    def sd(self) -> Tensor:
        return (0.5 * self.log_var).exp()

    def noise(self, generator: torch.Generator | None = None) -> Tensor:
        """Standard normal numbers for one sample, (..., dimension)."""
        return draw_for_sessions(
            torch.randn, self.mean.shape, generator, dtype=self.mean.dtype, device=self.mean.device
        )

    def at(self, noise: Tensor) -> Tensor:
        """The reparametrised sample of standard normal numbers, (..., dimension)."""
        return self.mean + self.sd * noise

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """One reparametrised sample, (..., dimension)."""
        return self.at(self.noise(generator))

    def kl(self, prior: Gaussian) -> Tensor:
        """KL(self ‖ prior), summed over the dimension: (...)."""
        difference = (self.mean - prior.mean) ** 2 * (-prior.log_var).exp()
        ratio = self.log_var - prior.log_var
        return 0.5 * (difference + ratio.exp() - 1 - ratio).sum(-1)

    def average(self, dim: int) -> Gaussian:
        """Mean of the means and of the variances over an axis that is kept (`mean` pooling of q(e),
        model.md)."""
        variance = self.log_var.exp().mean(dim, keepdim=True)
        return Gaussian(self.mean.mean(dim, keepdim=True), variance.log())

    def product(self, dim: int, counted: Tensor | None = None) -> Gaussian:
        """Product over an axis that is kept of posteriors under one prior N(0, I), over all but one
        of these priors.

        precision = 1 + Σ (1/var − 1) and mean = Σ mean/var / precision: what independent
        observations of one quantity tell together. A variance above the prior's counts as the
        prior's: no observation tells less than nothing. counted (...), without the dimension: 0
        where a posterior is not to count (default: all count).
        """
        precision = self.log_var.clamp(max=0).neg().exp()
        weight = (
            torch.ones_like(precision)
            if counted is None
            else counted[..., None].to(precision.dtype)
        )
        total = 1 + ((precision - 1) * weight).sum(dim, keepdim=True)
        return Gaussian(
            (precision * self.mean * weight).sum(dim, keepdim=True) / total, -total.log()
        )


def standard_normal(like: Tensor) -> Gaussian:
    """N(0, I) of the shape of `like`."""
    return Gaussian(torch.zeros_like(like), torch.zeros_like(like))
