"""Σ weight · log p(y | z) of a batch and its gradient together, stretch by stretch of sessions (docs/decisions/score.md).

A batch has many millions of entries, and each operation on all of them goes through memory; a stretch stays in cache.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from metadyn.model.stretches import stretches
from metadyn.model.tf32 import tf32

# linear (session, point, unit), counts and weight alike, further parameters (session, unit) → the sum, and its gradients by
# linear and by the further parameters
Scored = Callable[..., tuple[Tensor, Tensor, *tuple[Tensor, ...]]]


class Score(torch.autograd.Function):
    """(z, weight, bias, *more) of a linear readout → Σ entry_weight · log p(counts | z); arguments as in `Readout.score`."""

    @staticmethod
    def forward(ctx, scored: Scored, n_units, counts, entry_weight, z, weight, bias, *more):
        total, gradients = z.new_zeros(()), [torch.zeros_like(each) for each in (z, weight, bias, *more)]
        with tf32(z.is_cuda):
            for rows, units in stretches(counts.shape, n_units, z.device):
                c = weight[rows, :units]
                linear = torch.baddbmm(bias[rows, None, :units], z[rows], c.mT)
                entries = (each[rows, :, :units] for each in (counts, entry_weight))
                value, d_linear, *d_more = scored(linear, *entries, *(each[rows, :units] for each in more))
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
        return None, None, None, None, *(d_total * each for each in ctx.saved_tensors)
