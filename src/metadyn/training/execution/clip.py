"""The bound on a step's gradient: over all parameters, rows that alone have a gradient, and
processes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from metadyn.training.execution.distributed import SingleProcess


def clip_gradients(
    parameters: dict[str, nn.Parameter], most: float, processes: SingleProcess
) -> Tensor:
    """Scale the gradients to a norm of at most `most`, as `nn.utils.clip_grad_norm_`; returns the
    norm there was.

    What sessions share gets the sum of the processes' gradients first; the norm is that of all
    sessions' parameters.
    """
    given = {
        name: parameter for name, parameter in parameters.items() if parameter.grad is not None
    }
    if processes.size == 1 and not any(parameter.grad.is_sparse for parameter in given.values()):
        return nn.utils.clip_grad_norm_(parameters.values(), most)
    own = [entries_of(parameter) for name, parameter in given.items() if processes.owns(name)]
    shared = [
        entries_of(parameter) for name, parameter in given.items() if not processes.owns(name)
    ]
    processes.add_up(shared)
    device = next(iter(parameters.values())).device
    norm = (processes.total(squared_norm(own, device)) + squared_norm(shared, device)).sqrt()
    scale = (most / (norm + 1e-6)).clamp(max=1.0)
    for entries in (*own, *shared):
        entries.mul_(scale)
    return norm


def entries_of(parameter: nn.Parameter) -> Tensor:
    """The gradient, or of a sparse one the rows that it has; changed, they change the gradient."""
    if not parameter.grad.is_sparse:
        return parameter.grad
    parameter.grad = parameter.grad.coalesce()
    return parameter.grad.values()


def squared_norm(tensors: list[Tensor], device: torch.device) -> Tensor:
    return sum(((each**2).sum() for each in tensors), torch.zeros((), device=device))
