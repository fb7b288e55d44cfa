"""Firing rates of units from latents.

Equation: λ = link(C z + D) / Δ; for z ~ N(μ, Σ) the linear part has mean C μ + D and variance
diag(C Σ Cᵀ).
Symbols: λ rate [Hz], z latent state, C and D readout of the session, Δ bin width [s].
Reference: Vermani et al., arXiv:2410.05454, eq. 10.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from metadyn.model.gaussian import Gaussian
from metadyn.model.trained import TrainedModel


@torch.no_grad()
def posterior_rates(
    trained: TrainedModel, session_row: int, q: Gaussian, n_units: int
) -> tuple[Float[np.ndarray, "trial time unit"], Float[np.ndarray, "trial time unit"]]:
    """Posterior mean and SD of each unit's rate [Hz], for a Gaussian q(z) (1, trial, time, latent).

    Exact, or by quadrature where the likelihood has no closed form.
    """
    weight, bias = _readout(trained, session_row, n_units)
    linear = q.mean[0] @ weight.T + bias  # (trial, time, unit)
    variance = q.log_var[0].exp() @ (weight**2).T
    mean, sd = trained.module.likelihood.rate_moments(linear, variance)  # counts per bin
    return mean.numpy(force=True) / trained.bin_width, sd.numpy(force=True) / trained.bin_width


def _readout(
    trained: TrainedModel, session_row: int, n_units: int
) -> tuple[Float[Tensor, "unit latent"], Float[Tensor, " unit"]]:
    """C and D of the session's units, without their padding."""
    likelihood = trained.module.likelihood
    weight = likelihood.weight[session_row, :n_units].detach()
    bias = likelihood.bias[session_row, :n_units].detach()
    return weight, bias


def rates_of_latents(
    trained: TrainedModel, session_row: int, z: Float[Tensor, "*point latent"], n_units: int
) -> Float[np.ndarray, "*point unit"]:
    """Rates [Hz] of latents that are known: link(C z + D) / bin width."""
    weight, bias = _readout(trained, session_row, n_units)
    expected = trained.module.likelihood.expected(z @ weight.T + bias)  # counts per bin
    return expected.numpy(force=True) / trained.bin_width


def rates_of_samples(
    trained: TrainedModel,
    session_row: int,
    latents: Float[Tensor, "sample trial time latent"],
    n_units: int,
) -> tuple[Float[np.ndarray, "sample trial time unit"], Float[np.ndarray, "trial time unit"]]:
    """Rates [Hz] of sampled latents and their SD over samples.

    Trial after trial, as rates of all samples are large: intermediate values stay small and in
    cache.
    """
    n_samples, n_trials, n_bins = latents.shape[:3]
    rate = np.empty((n_samples, n_trials, n_bins, n_units), np.float32)
    sd = np.empty((n_trials, n_bins, n_units), np.float32)
    for trial in range(n_trials):
        of_trial = rates_of_latents(trained, session_row, latents[:, trial], n_units)
        rate[:, trial] = of_trial
        sd[trial] = of_trial.std(0, ddof=1)
    return rate, sd
