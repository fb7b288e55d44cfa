"""Σ weight · log p(y | z) of a batch, and its gradient in the same pass.

A batch has many millions of entries, and each operation on all of them goes through memory; a piece
of a few sessions stays in cache (docs/decisions/score.md).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from metadyn.model.ops.chunks import as_float, session_chunks
from metadyn.model.ops.tf32 import tf32

# C z + D, y and weight, all (session, point, unit), further parameters (session, unit) → the sum,
# its gradient by C z + D, and those by the further parameters
LogProbAndSlope = Callable[..., tuple[Tensor, ...]]


class EntryWeights(NamedTuple):
    """The weight of each entry's log-likelihood: that of its bin, or zero outside `entries`."""

    bins: Float[Tensor, "session trial time"]
    entries: Bool[Tensor, "session trial_or_1 time_or_1 unit"]

    def whole(self) -> Float[Tensor, "session trial time unit"]:
        """The weight of each entry."""
        return self.bins[..., None] * self.entries

    def sum(self) -> Float[Tensor, ""]:
        """The sum of the weights of all entries."""
        return (self.bins * self.entries.sum(-1)).sum()


class WeightedLogProb(torch.autograd.Function):
    """The sum of `Likelihood.weighted_log_prob`, whose arguments these are."""

    @staticmethod
    def forward(
        ctx: Any,
        log_prob_and_slope: LogProbAndSlope,
        n_units: tuple[int, ...] | None,
        y: Tensor,
        bins: Tensor,
        entries: Tensor,
        z: Tensor,
        weight: Tensor,
        bias: Tensor,
        *own: Tensor,
    ) -> Tensor:
        """Tensors (session, point, …), and parameters (session, unit, …) of these sessions."""
        total = z.new_zeros(())
        gradients = [torch.zeros_like(each) for each in (z, weight, bias, *own)]
        with tf32(z.is_cuda):
            for rows, units in session_chunks(y.shape, n_units, z.device):
                c = weight[rows, :units]
                linear = torch.baddbmm(bias[rows, None, :units], z[rows], c.mT)
                entry_weight = bins[rows, :, None] * as_float(entries[rows, :, :units], z.dtype)
                values = y[rows, :, :units].to(z.dtype)  # (session, point, unit) of a piece
                of_units = [each[rows, :units] for each in own]
                value, d_linear, *d_own = log_prob_and_slope(
                    linear, values, entry_weight, *of_units
                )
                total += value
                torch.bmm(d_linear, c, out=gradients[0][rows])
                parts = [d_linear.mT @ z[rows], d_linear.sum(1), *d_own]
                for gradient, part in zip(gradients[1:], parts, strict=True):
                    gradient[rows, :units] = part
        ctx.save_for_backward(*gradients)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_total: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients by z and by the parameters."""
        gradients = [d_total * each for each in ctx.saved_tensors]
        return None, None, None, None, None, *gradients
