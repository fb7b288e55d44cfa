"""Gaussians with diagonal covariance: q(e), q(z), the transition and the priors."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Gaussian:
    """N(mean, diag exp(log_var)); both broadcast to (..., dimension)."""

    mean: Tensor
    log_var: Tensor

    @property
    def sd(self) -> Tensor:
        return (0.5 * self.log_var).exp()

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """One reparametrised sample, (..., dimension)."""
        noise = torch.randn(self.mean.shape, generator=generator, dtype=self.mean.dtype, device=self.mean.device)
        return self.mean + self.sd * noise

    def kl(self, prior: Gaussian) -> Tensor:
        """KL(self ‖ prior), summed over the dimension: (...)."""
        difference = (self.mean - prior.mean) ** 2 * (-prior.log_var).exp()
        ratio = self.log_var - prior.log_var
        return 0.5 * (difference + ratio.exp() - 1 - ratio).sum(-1)

    def average(self, dim: int) -> Gaussian:
        """Mean of the means and of the variances over an axis that is kept (`mean` pooling of q(e), model.md)."""
        variance = self.log_var.exp().mean(dim, keepdim=True)
        return Gaussian(self.mean.mean(dim, keepdim=True), variance.log())


def standard_normal(like: Tensor) -> Gaussian:
    """N(0, I) of the shape of `like`."""
    return Gaussian(torch.zeros_like(like), torch.zeros_like(like))
