"""y = x W + b or tanh(x W + b): a layer of a multilayer perceptron, in a compiled kernel on a CPU.

x: points of an item, which is a session or one of its trials; W, b: weights of each item, or of
all. Why and how much faster: docs/decisions/layers.md.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from metadyn.model.ops.kernels import call, runs, threads

# Least rows of a thread; for fewer in all, torch's operations take less time than a kernel call
ROWS = 128


def activated(x: Tensor, tanh: bool) -> Tensor:
    """tanh of x, or x."""
    return x.tanh() if tanh else x


def layer(
    x: Float[Tensor, "item point input"],
    weight: Float[Tensor, "weight input output"],
    bias: Float[Tensor, "bias output"],
    tanh: bool = False,
) -> Float[Tensor, "item point output"]:
    """x @ weight + bias, or tanh of it; a weight, or bias, of length 1 is that of all items."""
    if x.shape[0] * x.shape[1] >= ROWS and runs(x, weight, bias):
        return Layer.apply(x.contiguous(), weight.contiguous(), bias.contiguous(), tanh)
    if len(weight) == len(bias) == 1 < len(x):
        # All items in one product, also for the gradient: (1, item · point, input)
        points = layer(x.flatten(0, 1)[None], weight, bias, tanh)
        return points.view(*x.shape[:2], weight.shape[-1])
    return activated(torch.baddbmm(bias[:, None], x, weight.expand(len(x), -1, -1)), tanh)


class Layer(torch.autograd.Function):
    """The kernel with its gradient; where that shall be differentiable too, torch computes it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, tanh: bool) -> Tensor:
        """Arguments as of `layer`, contiguous."""
        (items, points, inputs), outputs = x.shape, weight.shape[-1]
        total = items * points
        if len(weight) == len(bias) == 1:
            # Rows do not depend on their item, so they are divided evenly among threads
            points = -(-total // threads(-(-total // ROWS)))
            items = -(-total // points)
        y = x.new_empty(*x.shape[:2], outputs)
        sizes = (items, points, total, inputs, outputs)
        ctx.sizes = (*sizes, len(weight) == 1, len(bias) == 1, tanh)
        ctx.save_for_backward(x, weight, y)
        call("layer_forward", threads(items), *ctx.sizes, x, weight, bias, y)
        return y

    @staticmethod
    def backward(ctx: Any, d_y: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients by x, weight and bias."""
        x, weight, y = ctx.saved_tensors
        _, _, _, _, _, shared_weight, shared_bias, tanh = ctx.sizes
        if torch.is_grad_enabled():
            d_sum = d_y * (1 - y**2) if tanh else d_y
            d_x = d_sum @ weight.mT
            d_weight = x.mT @ d_sum
            d_bias = d_sum.sum(1)
        else:
            d_x, d_weight, d_bias = Layer._by_kernel(ctx, d_y.contiguous())
        # A weight that all items share has the sum of their gradients
        d_weight = d_weight.sum(0, keepdim=True) if shared_weight else d_weight
        d_bias = d_bias.sum(0, keepdim=True) if shared_bias else d_bias
        return d_x, d_weight, d_bias, None

    @staticmethod
    def _by_kernel(ctx: Any, d_y: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
        """Gradients by x, and by the weight and bias of each item."""
        x, weight, y = ctx.saved_tensors
        items, _, _, inputs, outputs, *_ = ctx.sizes
        d_x = torch.empty_like(x) if ctx.needs_input_grad[0] else None
        d_weight = x.new_empty(items, inputs, outputs)
        d_bias = x.new_empty(items, outputs)
        gradients = (d_x, d_weight, d_bias)
        call("layer_backward", threads(items), *ctx.sizes, x, weight, y, d_y, *gradients)
        return gradients
