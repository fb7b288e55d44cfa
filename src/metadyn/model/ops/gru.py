"""A GRU over windows of different lengths; on a CPU in a compiled kernel
(docs/decisions/fused-gru.md)."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from metadyn.model.ops.kernels import call, runs, threads

BLOCK = 16  # sequences that the kernel runs together; a thread takes whole blocks


def reverse_within(
    x: Float[Tensor, "sequence time feature"], length: Int[Tensor, " sequence"]
) -> Tensor:
    """Each sequence's first `length` bins in reverse order; what stands behind them is of no
    meaning."""
    time = torch.arange(x.shape[1], device=x.device)
    index = (length[:, None] - 1 - time) % x.shape[1]
    return x.gather(1, index[..., None].expand_as(x))


class GRU(nn.GRU):
    """One layer of gated recurrent units over features and over what is told about the whole
    sequence.

    Parameters, their names and first values are those of `nn.GRU(features + told, hidden)`, and so
    are the results.
    """

    def __init__(self, features: int, told: int, hidden: int):
        super().__init__(features + told, hidden, batch_first=True)

    def forward(
        self,
        features: Float[Tensor, "sequence time feature"],
        told: Float[Tensor, "sequence told"],
        length: Int[Tensor, " sequence"],
        reverse: bool = False,
    ) -> Float[Tensor, "sequence time hidden"]:
        """States of every bin; in reverse from each sequence's bin `length` - 1 to its first, and
        zero behind `length`."""
        if runs(features, self.weight_hh_l0):
            return self._fused(features, told, length, reverse)
        inputs = torch.cat([features, told[:, None].expand(-1, features.shape[1], -1)], -1)
        if not reverse:
            return super().forward(inputs)[0]
        states = reverse_within(super().forward(reverse_within(inputs, length))[0], length)
        seen = torch.arange(features.shape[1], device=length.device) < length[:, None]
        return torch.where(seen[..., None], states, 0.0)

    def _fused(self, features: Tensor, told: Tensor, length: Tensor, reverse: bool) -> Tensor:
        """What is told adds the same to the gates at every bin, so it goes to the kernel with the
        biases."""
        weight, weight_told = self.weight_ih_l0.split([features.shape[-1], told.shape[-1]], 1)
        r, z, n = (told @ weight_told.T + self.bias_ih_l0).chunk(3, -1)
        r_h, z_h, n_h = self.bias_hh_l0.chunk(3)
        bias = torch.stack([n_h.expand_as(n), r + r_h, z + z_h, n], 1)
        inputs = [x.contiguous() for x in (features, bias, weight, self.weight_hh_l0)]
        return Fused.apply(*inputs, length.long().contiguous(), reverse)


class Fused(torch.autograd.Function):
    """The kernel as a differentiable function."""

    @staticmethod
    def forward(ctx, features, bias, weight, weight_hidden, length, reverse):
        (sequences, time, inputs), hidden = features.shape, weight_hidden.shape[1]
        states = features.new_empty(sequences, time, hidden)
        ctx.sizes = (sequences, time, inputs, hidden, int(reverse))
        ctx.save_for_backward(length, features, bias, weight, weight_hidden, states)
        parts = threads(-(-sequences // BLOCK))
        call(
            "gru_forward", parts, *ctx.sizes, length, features, bias, weight, weight_hidden, states
        )
        return states

    @staticmethod
    @once_differentiable
    def backward(ctx, d_states):
        _, features, bias, weight, weight_hidden, _ = ctx.saved_tensors
        d_states, parts = d_states.contiguous(), threads(-(-len(features) // BLOCK))
        d_inputs = [torch.empty_like(features), torch.empty_like(bias)]
        d_weights = [each.new_empty(parts, *each.shape) for each in (weight, weight_hidden)]
        call("gru_backward", parts, *ctx.sizes, *ctx.saved_tensors, d_states, *d_inputs, *d_weights)
        return *d_inputs, *(each.sum(0) for each in d_weights), None, None
