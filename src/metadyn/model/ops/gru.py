"""A gated recurrent unit over windows of different lengths; in a compiled kernel on a CPU.

r, s = σ(W x + U h + b), n = tanh(W' x + r ∘ (U' h + c) + b'), h = (1 − s) ∘ n + s ∘ h: x inputs of
a bin, h state. Why a kernel, and how much faster: docs/decisions/fused-gru.md.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from metadyn.model.ops.kernels import call, runs, threads

BLOCK_SEQUENCES = 16  # that the kernel runs together; a thread takes whole blocks


def reverse_within(
    x: Float[Tensor, "sequence time feature"], length: Int[Tensor, " sequence"]
) -> Float[Tensor, "sequence time feature"]:
    """The first `length` bins of each sequence in reverse order; later bins have no meaning."""
    time = torch.arange(x.shape[1], device=x.device)
    index = (length[:, None] - 1 - time) % x.shape[1]  # (sequence, time)
    return x.gather(1, index[..., None].expand_as(x))


class GRU(nn.GRU):
    """One layer over features of each bin and over static inputs of the whole sequence.

    Parameters, their names and first values are those of `nn.GRU(features + static, hidden)`, and
    so are the results.
    """

    weight_ih_l0: Tensor
    weight_hh_l0: Tensor
    bias_ih_l0: Tensor
    bias_hh_l0: Tensor

    def __init__(self, features: int, static: int, hidden: int) -> None:
        """Sizes of the features, the static inputs and the state."""
        super().__init__(features + static, hidden, batch_first=True)

    def forward(  # type: ignore[override]  # torch's takes inputs and a state, and no lengths
        self,
        features: Float[Tensor, "sequence time feature"],
        static: Float[Tensor, "sequence static"],
        length: Int[Tensor, " sequence"],
        reverse: bool = False,
    ) -> Float[Tensor, "sequence time hidden"]:
        """The state at every bin.

        In reverse: from each sequence's bin `length` - 1 to its first, and zero behind `length`.
        """
        if runs(features, self.weight_hh_l0):
            return self._fused(features, static, length, reverse)
        at_each_bin = static[:, None].expand(-1, features.shape[1], -1)
        inputs = torch.cat([features, at_each_bin], -1)  # (sequence, time, feature + static)
        if not reverse:
            return super().forward(inputs)[0]
        states = super().forward(reverse_within(inputs, length))[0]
        seen = torch.arange(features.shape[1], device=length.device) < length[:, None]
        return torch.where(seen[..., None], reverse_within(states, length), 0.0)

    def _fused(self, features: Tensor, static: Tensor, length: Tensor, reverse: bool) -> Tensor:
        """By the kernel.

        Static inputs add a constant to the gates at every bin, so they go there with the biases.
        """
        sizes = [features.shape[-1], static.shape[-1]]
        weight, weight_static = self.weight_ih_l0.split(sizes, 1)
        constant = static @ weight_static.T + self.bias_ih_l0  # (sequence, 3 · hidden)
        r, s, n = constant.chunk(3, -1)
        r_hidden, s_hidden, n_hidden = self.bias_hh_l0.chunk(3)
        bias = torch.stack([n_hidden.expand_as(n), r + r_hidden, s + s_hidden, n], 1)
        inputs = [x.contiguous() for x in (features, bias, weight, self.weight_hh_l0)]
        return Fused.apply(*inputs, length.long().contiguous(), reverse)


class Fused(torch.autograd.Function):
    """The kernel with its gradient."""

    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        bias: Tensor,
        weight: Tensor,
        weight_hidden: Tensor,
        length: Tensor,
        reverse: bool,
    ) -> Tensor:
        """The states (sequence, time, hidden); bias (sequence, 4, hidden), all contiguous."""
        (sequences, time, inputs), hidden = features.shape, weight_hidden.shape[1]
        states = features.new_empty(sequences, time, hidden)
        ctx.sizes = (sequences, time, inputs, hidden, int(reverse))
        tensors = (length, features, bias, weight, weight_hidden, states)
        ctx.save_for_backward(*tensors)
        call("gru_forward", threads(-(-sequences // BLOCK_SEQUENCES)), *ctx.sizes, *tensors)
        return states

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_states: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients by features, bias and the two weights."""
        _, features, bias, weight, weight_hidden, _ = ctx.saved_tensors
        parts = threads(-(-len(features) // BLOCK_SEQUENCES))
        d_inputs = [torch.empty_like(features), torch.empty_like(bias)]
        # Of each thread, (thread, …), and then added up
        d_weights = [each.new_empty(parts, *each.shape) for each in (weight, weight_hidden)]
        made = (d_states.contiguous(), *d_inputs, *d_weights)
        call("gru_backward", parts, *ctx.sizes, *ctx.saved_tensors, *made)
        return *d_inputs, *(each.sum(0) for each in d_weights), None, None
