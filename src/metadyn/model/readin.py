"""Read-in networks Ω: one MLP per session from its units to shared features (eq. 16), all sessions in one product."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


class ReadIn(nn.Module):
    """ȳ = W₂ relu(W₁ (y − mean) / sd + b₁) + b₂ for each session.

    Units are padded to the largest session; padded rows of W₁ meet inputs that are zero. `mean` and `sd` are
    those of the training data, so an input of zero means "the unit does as it always does": this is what
    hidden entries are replaced by. `dropout` is the share of hidden units left out where a generator is given.
    """

    def __init__(self, n_sessions: int, n_units: int, hidden: int, features: int, dropout: float = 0.0):
        super().__init__()
        self.dropout = dropout
        self.register_buffer("mean", torch.zeros(n_sessions, n_units))
        self.register_buffer("sd", torch.ones(n_sessions, n_units))
        self.weight_in = nn.Parameter(torch.randn(n_sessions, n_units, hidden) / n_units**0.5)
        self.bias_in = nn.Parameter(torch.zeros(n_sessions, hidden))
        self.weight_out = nn.Parameter(torch.randn(n_sessions, hidden, features) / hidden**0.5)
        self.bias_out = nn.Parameter(torch.zeros(n_sessions, features))

    def standardise(
        self, counts: Float[Tensor, "session trial time unit"], session: Int[Tensor, " session"]
    ) -> Float[Tensor, "session trial time unit"]:
        """Counts as deviations from the unit's mean, in units of its SD."""
        return (counts - self.mean[session, None, None]).div_(self.sd[session, None, None])

    def forward(
        self,
        deviations: Float[Tensor, "session trial time unit"],
        session: Int[Tensor, " session"],
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "session trial time feature"]:
        hidden = torch.baddbmm(self.bias_in[session, None], deviations.flatten(1, 2), self.weight_in[session]).relu()
        if self.dropout and generator is not None:
            draws = torch.rand(hidden.shape, generator=generator, dtype=hidden.dtype, device=hidden.device)
            hidden = hidden * draws.ge_(self.dropout).div_(1 - self.dropout)
        features = torch.baddbmm(self.bias_out[session, None], hidden, self.weight_out[session])
        return features.unflatten(1, deviations.shape[1:3])
