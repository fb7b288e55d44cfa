"""p(y | z): the observations of a session's units in a bin, given the latent state of that bin.

y ~ p(· | C z + D): y (unit,), latent z (latent,), readout C (unit, latent) and D (unit,) of the
session. Section 3.1 of Vermani et al., arXiv:2410.05454, eq. 10.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Num
from torch import Tensor, nn
from torch.distributions import Distribution

from metadyn.model.ops.per_session import PerSession, session_rows
from metadyn.model.ops.weighted_log_prob import EntryWeights, WeightedLogProb

ALL_UNITS = slice(None)
NODES = 20  # of the Gauss-Hermite quadrature over a latent posterior

# Weights C, biases D of some units, (unit, latent) and (unit,)
Readout = tuple[Float[np.ndarray, "unit latent"], Float[np.ndarray, " unit"]]


class Likelihood(PerSession, ABC):
    """C z + D of each session, and the distribution of y that follows from it.

    Units are padded to the largest session. A subclass is one distribution with one link, and says
    all that training, alignment and inference need to know of it.

    of_counts: whether y are spike counts (else continuous); own: names of further parameters
    (session, unit) of the distribution, beside C and D.
    """

    decayed = False

    of_counts: ClassVar[bool]
    own: ClassVar[tuple[str, ...]] = ()

    def __init__(self, n_sessions: int, n_units: int, latent_dim: int) -> None:
        """Random C and zero D, from torch's global generator."""
        super().__init__()
        self.weight = nn.Parameter(torch.randn(n_sessions, n_units, latent_dim) / latent_dim**0.5)
        self.bias = nn.Parameter(torch.zeros(n_sessions, n_units))

    # The distribution

    @staticmethod
    @abstractmethod
    def expected(linear: Tensor) -> Tensor:
        """E y, in counts per bin, of C z + D: the inverse of the link."""

    @staticmethod
    @abstractmethod
    def distribution(linear: Tensor, *own: Tensor) -> Distribution:
        """p(y) of C z + D (session, trial, time, unit) and parameters (session, 1, 1, unit)."""

    @staticmethod
    @abstractmethod
    def log_prob_and_slope(
        linear: Float[Tensor, "session point unit"],
        y: Float[Tensor, "session point unit"],
        weight: Float[Tensor, "session point unit"],
        *own: Float[Tensor, "session unit"],
    ) -> tuple[Tensor, ...]:
        """Σ weight · log p(y), and its gradients by C z + D and by the own parameters.

        Written out, as training spends most of its time here; `linear` may be overwritten.
        """

    @classmethod
    def rate_moments(
        cls, mean: Float[Tensor, "*point unit"], variance: Float[Tensor, "*point unit"]
    ) -> tuple[Float[Tensor, "*point unit"], Float[Tensor, "*point unit"]]:
        """Mean and SD of E y where C z + D ~ N(mean, variance).

        Here by quadrature, off by less than .1 % up to an SD of 3 for the softplus; a subclass that
        has a closed form uses it.
        """
        nodes, shares = (
            mean.new_tensor(each) for each in np.polynomial.hermite_e.hermegauss(NODES)
        )
        shares = shares / shares.sum()
        sd = variance.sqrt()
        values = [cls.expected(mean + sd * node) for node in nodes]
        first = sum(share * value for share, value in zip(shares, values, strict=True))
        squares = [(value - first) ** 2 for value in values]
        second = sum(share * square for share, square in zip(shares, squares, strict=True))
        return first, second.sqrt()

    # The score of held-out entries

    @staticmethod
    @abstractmethod
    def gain(
        y: Float[Tensor, "session trial time unit"],
        predicted: Distribution,
        mean: Float[Tensor, "session 1 1 unit"],
        where: Bool[Tensor, "session trial time unit"],
    ) -> tuple[Tensor, Tensor]:
        """Log-likelihood [bits] above that of each unit's `mean`, of the entries `where`.

        And its divisor: their spikes, which makes it bits per spike, or their number.
        """

    # The start from data

    @staticmethod
    def initial_readout(
        weight: Float[np.ndarray, "unit latent"],
        bias: Float[np.ndarray, " unit"],
        mean: Float[np.ndarray, " unit"],
    ) -> Readout:
        """C and D like those that the start from data has found, for units of that mean count.

        It finds those of exp(C z + D) for counts and of C z + D for continuous observations.
        """
        return weight, bias

    @staticmethod
    def initial_own(
        residual: Float[np.ndarray, " unit"], noise_scale: float
    ) -> dict[str, Float[np.ndarray, " unit"]]:
        """The own parameters that a session starts with.

        residual: log variance of what the latents leave of continuous observations; noise_scale:
        the factor by which the noise should begin larger than that.
        """
        return {}

    @staticmethod
    @abstractmethod
    def slope_at(mean: Float[Tensor, "*unit"]) -> Tensor | float:
        """d E y / d (C z + D) where E y is `mean`."""

    # All sessions together

    def linear(
        self,
        z: Float[Tensor, "session trial time latent"],
        session: Int[Tensor, " session"],
        units: slice = ALL_UNITS,
    ) -> Float[Tensor, "session trial time unit"]:
        """C z + D of some sessions, the rows `session`."""
        weight, bias = self.weight[session, units], self.bias[session, None, units]
        points = torch.baddbmm(bias, z.flatten(1, 2), weight.mT)  # (session, trial · time, unit)
        return points.unflatten(1, z.shape[1:3])

    def forward(
        self,
        z: Float[Tensor, "session trial time latent"],
        session: Int[Tensor, " session"],
        units: slice = ALL_UNITS,
    ) -> Distribution:
        """p(y | z) of all units or of some: `log_prob` of each entry, `mean` in counts per bin."""
        own = [getattr(self, name)[session, None, None, units] for name in self.own]
        return self.distribution(self.linear(z, session, units), *own)

    def weighted_log_prob(
        self,
        z: Float[Tensor, "session trial time latent"],
        session: Int[Tensor, " session"],
        y: Num[Tensor, "session trial time unit"],
        weight: EntryWeights,
        n_units: tuple[int, ...] | None = None,
    ) -> Float[Tensor, ""]:
        """Σ weight · log p(y | z), of which training takes the gradient.

        Only the first n_units of each session may have a weight (None: all may).
        """
        names = ("weight", "bias", *self.own)
        parameters = [session_rows(getattr(self, name), session) for name in names]
        points = [each.flatten(1, 2) for each in (y, *weight, z)]  # (session, trial · time, …)
        return WeightedLogProb.apply(self.log_prob_and_slope, n_units, *points, *parameters)

    def set_session(
        self,
        row: int,
        weight: Float[np.ndarray, "unit latent"],
        bias: Float[np.ndarray, " unit"],
        own: dict[str, Float[np.ndarray, " unit"]],
    ) -> None:
        """Give the units of one session these parameters."""
        units = len(bias)
        with torch.no_grad():
            for name, values in {"weight": weight, "bias": bias, **own}.items():
                getattr(self, name)[row, :units] = torch.as_tensor(values).float()

    def of_units(self, row: int, units: Int[np.ndarray, " unit"]) -> Likelihood:
        """That of some units of one session, as a model of these alone has it."""
        alone = type(self)(1, len(units), self.weight.shape[-1])
        for name in ("weight", "bias", *self.own):
            chosen = getattr(self, name)[row : row + 1, units]
            setattr(alone, name, nn.Parameter(chosen.detach()))
        return alone
