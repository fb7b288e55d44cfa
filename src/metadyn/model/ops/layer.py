"""A layer of a multilayer perceptron, of sessions with weights of their own or shared ones
(docs/decisions/layers.md)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from metadyn.model.ops.kernels import call, runs, threads

# Of a thread at least; of fewer in all, torch's operations take less time than a call of the kernel
ROWS = 128


def activated(x: Tensor, tanh: bool) -> Tensor:
    return x.tanh() if tanh else x


def layer(
    x: Float[Tensor, "item point input"],
    weight: Float[Tensor, "weight input output"],
    bias: Float[Tensor, "bias output"],
    tanh: bool = False,
) -> Float[Tensor, "item point output"]:
    """x @ weight + bias, or tanh of it; one weight, or one bias, is that of all items."""
    if x.shape[0] * x.shape[1] >= ROWS and runs(x, weight, bias):
        return Layer.apply(x.contiguous(), weight.contiguous(), bias.contiguous(), tanh)
    if len(weight) == len(bias) == 1 < len(x):  # one product, also for the gradient
        return layer(x.flatten(0, 1)[None], weight, bias, tanh).view(*x.shape[:2], weight.shape[-1])
    return activated(torch.baddbmm(bias[:, None], x, weight.expand(len(x), -1, -1)), tanh)


class Layer(torch.autograd.Function):
    """The kernel as a differentiable function; where the gradient shall be differentiable too,
    torch computes it."""

    @staticmethod
    def forward(ctx, x, weight, bias, tanh):
        (items, points, inputs), outputs = x.shape, weight.shape[-1]
        if len(weight) == len(bias) == 1:  # then it matters to no row of which item it is
            total = items * points
            points = -(-total // threads(-(-total // ROWS)))
            items = -(-total // points)
        y = x.new_empty(*x.shape[:2], outputs)
        ctx.sizes = (
            items,
            points,
            x.shape[0] * x.shape[1],
            inputs,
            outputs,
            len(weight) == 1,
            len(bias) == 1,
            tanh,
        )
        ctx.save_for_backward(x, weight, y)
        call("layer_forward", threads(items), *ctx.sizes, x, weight, bias, y)
        return y

    @staticmethod
    def backward(ctx, d_y):
        x, weight, y = ctx.saved_tensors
        items, _, _, inputs, outputs, shared_weight, shared_bias, tanh = ctx.sizes
        if torch.is_grad_enabled():
            d_sum = d_y * (1 - y**2) if tanh else d_y
            d_weight, d_bias, d_x = x.mT @ d_sum, d_sum.sum(1), d_sum @ weight.mT
        else:
            d_y, d_x = d_y.contiguous(), torch.empty_like(x) if ctx.needs_input_grad[0] else None
            d_weight, d_bias = x.new_empty(items, inputs, outputs), x.new_empty(items, outputs)
            call(
                "layer_backward",
                threads(items),
                *ctx.sizes,
                x,
                weight,
                y,
                d_y,
                d_x,
                d_weight,
                d_bias,
            )
        d_weight = d_weight.sum(0, keepdim=True) if shared_weight else d_weight
        return d_x, d_weight, d_bias.sum(0, keepdim=True) if shared_bias else d_bias, None
