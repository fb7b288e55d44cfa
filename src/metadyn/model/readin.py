"""Read-in networks Ω: one MLP per session from its units to shared features (eq. 16), all sessions in one product."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from metadyn.model.numbers import drawn
from metadyn.model.rows import rows_of
from metadyn.model.stretches import stretches
from metadyn.model.tf32 import tf32


class FirstLayer(torch.autograd.Function):
    """deviations @ weight + bias, (session, point, hidden), without the products of padding.

    The deviations, ((counts − mean) / sd) · visible, are made stretch by stretch, and once more for the gradient.
    """

    @staticmethod
    def forward(ctx, n_units, counts, visible, mean, sd, weight, bias):
        hidden = bias[:, None].repeat(1, counts.shape[1], 1)
        for rows, units in stretches(counts.shape, n_units, counts.device):
            deviations = _deviations(counts, visible, mean, sd, rows, units)
            hidden[rows].baddbmm_(deviations, weight[rows, :units])
        ctx.n_units = n_units
        ctx.save_for_backward(counts, visible, mean, sd, weight)
        return hidden

    @staticmethod
    @once_differentiable
    def backward(ctx, d_hidden):
        counts, visible, mean, sd, weight = ctx.saved_tensors
        d_weight = torch.zeros_like(weight)
        for rows, units in stretches(counts.shape, ctx.n_units, counts.device):
            deviations = _deviations(counts, visible, mean, sd, rows, units)
            with tf32(counts.is_cuda):
                d_weight[rows, :units] = deviations.mT @ d_hidden[rows]
        return None, None, None, None, None, d_weight, d_hidden.sum(1)


def _deviations(counts: Tensor, visible: Tensor | None, mean: Tensor, sd: Tensor, rows: slice, units: int) -> Tensor:
    deviations = counts[rows, :, :units].sub(mean[rows, None, :units]).div_(sd[rows, None, :units])
    return deviations if visible is None else deviations.mul_(visible[rows, :, :units])


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

    def forward(
        self,
        counts: Float[Tensor, "session trial time unit"],
        session: Int[Tensor, " session"],
        generator: torch.Generator | None = None,
        *,
        visible: Float[Tensor, "session trial time unit"] | None = None,
        n_units: tuple[int, ...] | None = None,
    ) -> Float[Tensor, "session trial time feature"]:
        """`visible` are factors of the inputs (None: 1); only the first n_units of each session are no padding (None: all)."""
        data = [each if each is None else each.flatten(1, 2) for each in (counts, visible)]
        rows = [rows_of(each, session) for each in (self.mean, self.sd, self.weight_in, self.bias_in)]
        with tf32(counts.is_cuda and torch.is_grad_enabled()):  # in training
            hidden = FirstLayer.apply(n_units, *data, *rows).relu()
        if self.dropout and generator is not None:
            draws = drawn(torch.rand, hidden.shape, generator, dtype=hidden.dtype, device=hidden.device)
            hidden = hidden * draws.ge_(self.dropout).div_(1 - self.dropout)
        features = torch.baddbmm(rows_of(self.bias_out, session)[:, None], hidden, rows_of(self.weight_out, session))
        return features.unflatten(1, counts.shape[1:3])
