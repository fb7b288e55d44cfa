"""Σ weight · log p(y | z) of a batch and its gradient together, stretch by stretch of sessions
(docs/decisions/score.md).

A batch has many millions of entries, and each operation on all of them goes through memory; a
stretch stays in cache.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from metadyn.model.ops.chunks import as_float, session_chunks
from metadyn.model.ops.tf32 import tf32

# linear (session, point, unit), counts and weight alike, further parameters (session, unit) → the
# sum, and its gradients by linear and by the further parameters
LogProbAndSlope = Callable[..., tuple[Tensor, Tensor, *tuple[Tensor, ...]]]


class EntryWeights(NamedTuple):
    """How much the log-likelihood of an entry counts: as its bin does, or, outside of `entries`,
    nothing."""

    bins: Float[Tensor, "session trial time"]
    entries: Bool[Tensor, "session trial_or_1 time_or_1 unit"]

    def whole(self) -> Float[Tensor, "session trial time unit"]:
        """Of each entry."""
        return self.bins[..., None] * self.entries

    def sum(self) -> Float[Tensor, ""]:
        return (self.bins * self.entries.sum(-1)).sum()


class WeightedLogProb(torch.autograd.Function):
    """(z, weight, bias, *more) of a linear readout → Σ bins · entries · log p(counts | z);
    arguments as in `Likelihood.weighted_log_prob`."""

    @staticmethod
    def forward(
        ctx, scored: LogProbAndSlope, n_units, counts, bins, entries, z, weight, bias, *more
    ):
        total, gradients = (
            z.new_zeros(()),
            [torch.zeros_like(each) for each in (z, weight, bias, *more)],
        )
        with tf32(z.is_cuda):
            for rows, units in session_chunks(counts.shape, n_units, z.device):
                c = weight[rows, :units]
                linear = torch.baddbmm(bias[rows, None, :units], z[rows], c.mT)
                entry_weight = bins[rows, :, None] * as_float(entries[rows, :, :units], z.dtype)
                counted = counts[rows, :, :units].to(z.dtype)
                value, d_linear, *d_more = scored(
                    linear, counted, entry_weight, *(each[rows, :units] for each in more)
                )
                total += value
                torch.bmm(d_linear, c, out=gradients[0][rows])
                of_units = [d_linear.mT @ z[rows], d_linear.sum(1), *d_more]
                for gradient, part in zip(gradients[1:], of_units, strict=True):
                    gradient[rows, :units] = part
        ctx.save_for_backward(*gradients)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx, d_total):
        return None, None, None, None, None, *(d_total * each for each in ctx.saved_tensors)
