"""The bound on a step's gradient: over all parameters, over the rows that have a gradient, and over
processes."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from metadyn.training.execution.distributed import SingleProcess


def clip_gradients(
    parameters: dict[str, nn.Parameter], most: float, processes: SingleProcess
) -> Float[Tensor, ""]:
    """Scale the gradients to a norm of at most `most`, as `nn.utils.clip_grad_norm_`.

    Returns the norm before. Gradients of parameters that all sessions share are summed over
    processes first; the norm is that of all sessions' parameters.
    """
    sparse = any(each.grad is not None and each.grad.is_sparse for each in parameters.values())
    if processes.size == 1 and not sparse:
        return nn.utils.clip_grad_norm_(parameters.values(), most)
    own: list[Tensor] = []
    shared: list[Tensor] = []
    for name, parameter in parameters.items():
        if parameter.grad is not None:
            gradients = own if processes.owns(name) else shared
            gradients.append(entries_of(parameter, parameter.grad))
    processes.add_up(shared)
    device = next(iter(parameters.values())).device
    norm = (processes.total(squared_norm(own, device)) + squared_norm(shared, device)).sqrt()
    # As torch's own, with the same small number
    scale = (most / (norm + 1e-6)).clamp(max=1.0)
    for gradient in (*own, *shared):
        gradient.mul_(scale)
    return norm


def entries_of(parameter: nn.Parameter, gradient: Tensor) -> Float[Tensor, "..."]:
    """The entries of a parameter's gradient, of a sparse one those of the rows that it has.

    They are no copy: changing them changes the gradient.
    """
    if not gradient.is_sparse:
        return gradient
    coalesced = gradient.coalesce()
    parameter.grad = coalesced
    return coalesced.values()


def squared_norm(tensors: list[Float[Tensor, "..."]], device: torch.device) -> Float[Tensor, ""]:
    """The sum of the squares of all entries of some tensors."""
    return sum(((each**2).sum() for each in tensors), torch.zeros((), device=device))
