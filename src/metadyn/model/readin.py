"""Read-in networks Ω: one MLP per session from its units to shared features (eq. 16), all sessions
in one product."""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int, Real
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from metadyn.model.ops.chunks import as_float, session_chunks
from metadyn.model.ops.layer import layer
from metadyn.model.ops.per_session import PerSession, session_rows
from metadyn.model.ops.random import bernoulli
from metadyn.model.ops.tf32 import tf32


class Visible(NamedTuple):
    """Entries that the encoders see, which stand for all: their share of them, one number or one of
    each bin."""

    entries: Bool[Tensor, "session trial time unit"]
    share: float | Float[Tensor, "session trial time"]

    @staticmethod
    def of(
        entries: Bool[Tensor, "session trial time unit"],
        n_units: Int[Tensor, "session_or_1 1 1"] | int,
    ) -> Visible:
        """The entries that were observed, of so many units."""
        seen = entries.sum(-1) / n_units
        return Visible(entries, (seen + FEWEST) / (1 + FEWEST))

    def without(self, hidden: Bool[Tensor, "session trial time unit"], share: float) -> Visible:
        """The same but for a share of the entries."""
        return Visible(self.entries & ~hidden, self.share * (1 - share))


# Added to the share of the units that were seen: what few of them say is not multiplied by more
# than eleven
FEWEST = 0.1


class FirstLayer(torch.autograd.Function):
    """relu(deviations @ weight + bias) · kept, (session, point, hidden), without the products of
    padding.

    The deviations, ((counts − mean) / sd) · visible / share, are made stretch by stretch, and once
    more for the gradient.
    """

    @staticmethod
    def forward(ctx, n_units, counts, visible, share, kept, mean, sd, weight, bias):
        hidden = weight.new_empty(*counts.shape[:2], weight.shape[-1])
        for rows, units in session_chunks(counts.shape, n_units, counts.device):
            deviations, part = (
                _deviations(counts, visible, share, mean, sd, rows, units),
                hidden[rows],
            )
            torch.baddbmm(bias[rows, None], deviations, weight[rows, :units], out=part)
            part.relu_()
            if kept is not None:
                part.mul_(as_float(kept[rows], part.dtype))
        ctx.n_units = n_units
        ctx.save_for_backward(counts, visible, share, mean, sd, weight, hidden)
        return hidden

    @staticmethod
    @once_differentiable
    def backward(ctx, d_hidden):
        counts, visible, share, mean, sd, weight, hidden = ctx.saved_tensors
        d_weight, d_bias = (
            torch.zeros_like(weight),
            weight.new_empty(hidden.shape[0], hidden.shape[-1]),
        )
        for rows, units in session_chunks(counts.shape, ctx.n_units, counts.device):
            deviations = _deviations(counts, visible, share, mean, sd, rows, units)
            d_sum = d_hidden[rows] * as_float(hidden[rows] > 0, hidden.dtype)
            with tf32(counts.is_cuda):
                d_weight[rows, :units] = deviations.mT @ d_sum
            d_bias[rows] = d_sum.sum(1)
        return None, None, None, None, None, None, None, d_weight, d_bias


def _deviations(
    counts: Tensor,
    visible: Tensor | None,
    share: Tensor | None,
    mean: Tensor,
    sd: Tensor,
    rows: slice,
    units: int,
) -> Tensor:
    deviations = (
        counts[rows, :, :units]
        .to(mean.dtype, copy=True)
        .sub_(mean[rows, None, :units])
        .div_(sd[rows, None, :units])
    )
    deviations = (
        deviations
        if visible is None
        else deviations.mul_(as_float(visible[rows, :, :units], mean.dtype))
    )
    return deviations if share is None else deviations.div_(share[rows, :, None])


class ReadIn(PerSession):
    """ȳ = W₂ relu(W₁ (y − mean) / sd + b₁) + b₂ for each session.

    Units are padded to the largest session; padded rows of W₁ meet inputs that are zero. `mean` and
    `sd` are those of the training data, so an input of zero means "the unit does as it always
    does": this is what hidden entries are replaced by. `dropout` is the share of hidden units left
    out where a generator is given.
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
        counts: Real[Tensor, "session trial time unit"],
        session: Int[Tensor, " session"],
        generator: torch.Generator | None = None,
        *,
        visible: Visible | None = None,
        n_units: tuple[int, ...] | None = None,
    ) -> Float[Tensor, "session trial time feature"]:
        """All inputs are `visible` by default; only the first n_units of each session are no
        padding (None: all)."""
        points, kept, weight_out = (
            counts.flatten(1, 2),
            None,
            session_rows(self.weight_out, session),
        )
        mean, sd, *first = (
            session_rows(each, session)
            for each in (self.mean, self.sd, self.weight_in, self.bias_in)
        )
        if self.dropout and generator is not None:
            shape = (*points.shape[:2], weight_out.shape[1])
            kept, weight_out = (
                ~bernoulli(self.dropout, shape, generator, points.device),
                weight_out / (1 - self.dropout),
            )
        shown, share = None, None
        if visible is not None:
            shown, of_bins = visible.entries.flatten(1, 2), isinstance(visible.share, Tensor)
            share, sd = (visible.share.flatten(1, 2), sd) if of_bins else (None, sd * visible.share)
        with tf32(counts.is_cuda and torch.is_grad_enabled()):  # in training
            hidden = FirstLayer.apply(n_units, points, shown, share, kept, mean, sd, *first)
        features = layer(hidden, weight_out, session_rows(self.bias_out, session))
        return features.unflatten(1, counts.shape[1:3])
