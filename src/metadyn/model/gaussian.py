"""N(μ, diag exp(v)): q(e), q(z), the transition and the priors are Gaussians of this form.

μ: mean, v: log variance. KL(q ‖ p) = ½ Σ [exp(v_q − v_p) + (μ_q − μ_p)² exp(−v_p) − 1 − v_q + v_p].
The divergences of the ELBO, section 3.2 of Vermani et al., arXiv:2410.05454.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from metadyn.model.ops.random import draw_for_sessions


@dataclass(frozen=True)
class Gaussian:
    """A Gaussian with diagonal covariance; both broadcast to (..., dimension).

    >>> prior = Gaussian(torch.zeros(2), torch.zeros(2))
    >>> float(Gaussian(torch.tensor([1.0, 0.0]), torch.zeros(2)).kl(prior))
    0.5
    """

    mean: Float[Tensor, "..."]
    log_var: Float[Tensor, "..."]

    @property
    def sd(self) -> Float[Tensor, "..."]:
        """Standard deviation."""
        return (0.5 * self.log_var).exp()

    def noise(self, generator: torch.Generator | None = None) -> Float[Tensor, "..."]:
        """Standard normal numbers for one sample, (..., dimension)."""
        mean = self.mean
        return draw_for_sessions(
            torch.randn, mean.shape, generator, dtype=mean.dtype, device=mean.device
        )

    def at(self, noise: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """The reparametrised sample of standard normal numbers, (..., dimension)."""
        return self.mean + self.sd * noise

    def sample(self, generator: torch.Generator | None = None) -> Float[Tensor, "..."]:
        """One reparametrised sample, (..., dimension)."""
        return self.at(self.noise(generator))

    def kl(self, prior: Gaussian) -> Float[Tensor, "..."]:
        """KL(self ‖ prior) [nats], summed over the dimension: (...)."""
        # Of each dimension: (μ − μ_prior)² / var_prior, and var / var_prior in logarithms
        difference = (self.mean - prior.mean) ** 2 * (-prior.log_var).exp()
        ratio = self.log_var - prior.log_var
        return 0.5 * (difference + ratio.exp() - 1 - ratio).sum(-1)

    def average(self, dim: int) -> Gaussian:
        """Mean of the means and of the variances over an axis, which is kept with length 1."""
        variance = self.log_var.exp().mean(dim, keepdim=True)
        return Gaussian(self.mean.mean(dim, keepdim=True), variance.log())

    def product(self, dim: int, counted: Shaped[Tensor, "..."] | None = None) -> Gaussian:
        """The posterior of all observations, from those of each, over an axis that is kept.

        Of independent observations of one quantity under a prior N(0, I), the posteriors multiply,
        over all but one of their priors: precision = 1 + Σ (1/var − 1), mean = Σ mean/var /
        precision. A variance above the prior's counts as the prior's: no observation takes
        information away. counted (...), without the dimension: 0 where a posterior does not count
        (None: all count).
        """
        # One prior stays: each posterior adds what its precision is above the prior's, which is 1
        precision = self.log_var.clamp(max=0).neg().exp()
        if counted is None:
            weight = torch.ones_like(precision)
        else:
            weight = counted[..., None].to(precision.dtype)
        total = 1 + ((precision - 1) * weight).sum(dim, keepdim=True)
        mean = (precision * self.mean * weight).sum(dim, keepdim=True) / total
        return Gaussian(mean, -total.log())


def standard_normal(like: Float[Tensor, "..."]) -> Gaussian:
    """N(0, I) of the shape of `like`."""
    return Gaussian(torch.zeros_like(like), torch.zeros_like(like))
