"""Ω(y) = W₂ relu(W₁ (y − m) / s + b₁) + b₂: from a session's units to features that sessions share.

y: observations of a bin, (unit,); m, s: their mean and SD in training; W₁, b₁, W₂, b₂: weights of
the session. Section 3.2 of Vermani et al., arXiv:2410.05454, eq. 16.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int, Real
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from metadyn.model.ops.chunks import as_float, session_chunks
from metadyn.model.ops.layer import layer
from metadyn.model.ops.per_session import PerSession, session_rows
from metadyn.model.ops.random import bernoulli
from metadyn.model.ops.tf32 import tf32

# Added to the share of the units that were seen, so that deviations of few units are not multiplied
# by more than eleven
SHARE_OFFSET = 0.1


class Visible(NamedTuple):
    """The entries that the encoders see, and their share of all: one number, or one of each bin.

    Those that are seen stand for all, so their deviations are divided by the share.
    """

    entries: Bool[Tensor, "session trial time unit"]
    share: float | Float[Tensor, "session trial time"]

    @staticmethod
    def of(
        entries: Bool[Tensor, "session trial time unit"],
        n_units: Int[Tensor, "session_or_1 1 1"] | int,
    ) -> Visible:
        """The entries that were observed, of sessions with so many units."""
        seen = entries.sum(-1) / n_units  # (session, trial, time)
        return Visible(entries, (seen + SHARE_OFFSET) / (1 + SHARE_OFFSET))

    def without(self, hidden: Bool[Tensor, "session trial time unit"], share: float) -> Visible:
        """The same without the entries `hidden`, which are that share of all."""
        return Visible(self.entries & ~hidden, self.share * (1 - share))


class FirstLayer(torch.autograd.Function):
    """relu(deviations @ weight + bias) · kept, without the products of padding.

    The deviations, ((y − mean) / sd) · visible / share, are computed for a few sessions at a time,
    and once more for the gradient.
    """

    @staticmethod
    def forward(
        ctx: Any,
        n_units: tuple[int, ...] | None,
        y: Tensor,
        visible: Tensor | None,
        share: Tensor | None,
        kept: Tensor | None,
        mean: Tensor,
        sd: Tensor,
        weight: Tensor,
        bias: Tensor,
    ) -> Tensor:
        """(session, point, hidden); y and visible (session, point, unit).

        kept (session, point, hidden): False where dropout left a hidden unit out (None: none).
        """
        hidden = weight.new_empty(*y.shape[:2], weight.shape[-1])
        for rows, units in session_chunks(y.shape, n_units, y.device):
            deviations = _deviations(y, visible, share, mean, sd, rows, units)
            part = hidden[rows]
            torch.baddbmm(bias[rows, None], deviations, weight[rows, :units], out=part)
            part.relu_()
            if kept is not None:
                part.mul_(as_float(kept[rows], part.dtype))
        ctx.n_units = n_units
        ctx.save_for_backward(y, visible, share, mean, sd, weight, hidden)
        return hidden

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_hidden: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients by weight and bias."""
        y, visible, share, mean, sd, weight, hidden = ctx.saved_tensors
        d_weight = torch.zeros_like(weight)
        d_bias = weight.new_empty(hidden.shape[0], hidden.shape[-1])
        for rows, units in session_chunks(y.shape, ctx.n_units, y.device):
            deviations = _deviations(y, visible, share, mean, sd, rows, units)
            # Units of which relu or dropout made zero have no gradient
            d_sum = d_hidden[rows] * as_float(hidden[rows] > 0, hidden.dtype)
            with tf32(y.is_cuda):
                d_weight[rows, :units] = deviations.mT @ d_sum
            d_bias[rows] = d_sum.sum(1)
        return None, None, None, None, None, None, None, d_weight, d_bias


def _deviations(
    y: Tensor,
    visible: Tensor | None,
    share: Tensor | None,
    mean: Tensor,
    sd: Tensor,
    rows: slice,
    units: int,
) -> Tensor:
    """Of the first `units` units of some sessions, (session, point, unit)."""
    deviations = y[rows, :, :units].to(mean.dtype, copy=True)
    deviations = deviations.sub_(mean[rows, None, :units]).div_(sd[rows, None, :units])
    if visible is not None:
        deviations = deviations.mul_(as_float(visible[rows, :, :units], mean.dtype))
    return deviations if share is None else deviations.div_(share[rows, :, None])


class ReadIn(PerSession):
    """The read-in networks of all sessions.

    Units are padded to the largest session; padded rows of W₁ meet inputs that are zero. `mean` and
    `sd` are those of the training data, so an input of zero means that the unit has its mean: this
    replaces hidden entries. `dropout` is the share of hidden units left out where a generator is
    given.
    """

    padding = MappingProxyType({"sd": 1.0})
    mean: Float[Tensor, "session unit"]
    sd: Float[Tensor, "session unit"]

    def __init__(
        self, n_units: Sequence[int], hidden: int, features: int, dropout: float = 0.0
    ) -> None:
        """n_units: of each session; random weights, from torch's global generator."""
        super().__init__()
        n_sessions, most = len(n_units), max(n_units)
        self.dropout = dropout
        self.register_buffer("mean", torch.zeros(n_sessions, most))
        self.register_buffer("sd", torch.ones(n_sessions, most))
        self.weight_in = nn.Parameter(torch.randn(n_sessions, most, hidden) / most**0.5)
        with torch.no_grad():
            for row, units in enumerate(n_units):
                self.weight_in[row, units:] = 0.0  # LAMB's norm of a layer is that of its units
        self.bias_in = nn.Parameter(torch.zeros(n_sessions, hidden))
        self.weight_out = nn.Parameter(torch.randn(n_sessions, hidden, features) / hidden**0.5)
        self.bias_out = nn.Parameter(torch.zeros(n_sessions, features))

    def forward(
        self,
        y: Real[Tensor, "session trial time unit"],
        session: Int[Tensor, " session"],
        generator: torch.Generator | None = None,
        *,
        visible: Visible | None = None,
        n_units: tuple[int, ...] | None = None,
    ) -> Float[Tensor, "session trial time feature"]:
        """Features of the observations of some sessions, the rows `session`.

        visible: the entries to use (None: all); n_units: of each session, without padding (None:
        all).
        """
        points = y.flatten(1, 2)  # (session, trial · time, unit)
        weight_out = session_rows(self.weight_out, session)
        mean, sd, weight_in, bias_in = (
            session_rows(each, session)
            for each in (self.mean, self.sd, self.weight_in, self.bias_in)
        )
        kept = None
        if self.dropout and generator is not None:
            shape = (*points.shape[:2], weight_out.shape[1])  # (session, trial · time, hidden)
            kept = ~bernoulli(self.dropout, shape, generator, points.device)
            weight_out = weight_out / (1 - self.dropout)
        shown = share = None
        if visible is not None:
            shown = visible.entries.flatten(1, 2)
            if isinstance(visible.share, Tensor):
                share = visible.share.flatten(1, 2)
            else:
                sd = sd * visible.share
        with tf32(y.is_cuda and torch.is_grad_enabled()):  # in training
            hidden = FirstLayer.apply(
                n_units, points, shown, share, kept, mean, sd, weight_in, bias_in
            )
        features = layer(hidden, weight_out, session_rows(self.bias_out, session))
        return features.unflatten(1, y.shape[1:3])
