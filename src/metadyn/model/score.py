"""Σ weight · log p(y | z) of a batch and its gradient together, stretch by stretch of sessions (docs/decisions/score.md).

A batch has many millions of entries, and each operation on all of them goes through memory; a stretch stays in cache.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

ENTRIES = 1 << 20  # of a stretch on a CPU, where that many floats of a few tensors fit the cache; a GPU takes all at once

# linear (session, point, unit), counts and weight alike, further parameters (session, unit) → the sum, and its gradients by
# linear and by the further parameters
Scored = Callable[..., tuple[Tensor, Tensor, *tuple[Tensor, ...]]]


def stretches(shape: torch.Size, n_units: tuple[int, ...] | None, device: torch.device) -> list[tuple[slice, int]]:
    """Consecutive sessions and the units of the largest: shape (session, point, unit), units that are real (None: all)."""
    sessions, points, units = shape
    n_units = n_units or (units,) * sessions
    most = max(1, ENTRIES // max(1, points * units)) if device.type == "cpu" else sessions
    return [(slice(first, first + most), max(n_units[first : first + most])) for first in range(0, sessions, most)]


class Score(torch.autograd.Function):
    """(z, weight, bias, *more) of a linear readout → Σ entry_weight · log p(counts | z); arguments as in `Readout.score`."""

    @staticmethod
    def forward(ctx, scored: Scored, n_units, counts, entry_weight, z, weight, bias, *more):
        total, gradients = z.new_zeros(()), [torch.zeros_like(each) for each in (z, weight, bias, *more)]
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
