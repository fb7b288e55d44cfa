"""One training step: forward, backward, clip, optimiser."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from metadyn.model.ops.random import SessionGenerator
from metadyn.training.execution.clip import clip_gradients
from metadyn.training.execution.distributed import SINGLE_PROCESS, SingleProcess


@dataclass(frozen=True)
class Task:
    """What a loop trains: named parameters of `module`, objective(step, generator, KL weight) →
    (loss, terms), validate() → scores.

    Of several processes (`processes`) each has a part of module and objective; scores are of all.
    Where the objective is `static`, what a step told is looked at when it is reported, not before.
    """

    module: nn.Module
    parameters: dict[str, nn.Parameter]
    optimiser: torch.optim.Optimizer
    objective: Callable[[int, torch.Generator, float | Tensor], tuple[Tensor, dict[str, Tensor]]]
    validate: Callable[[], dict[str, float]]
    learning_rate: Callable[[int], float]
    kl_weight: Callable[[int], float]
    stage: Callable[[int], str]
    steps: int
    clip: float
    every: int
    seed: int
    processes: SingleProcess = SINGLE_PROCESS
    static: bool = False


def take_step(task: Task, step: int, step_size: float) -> dict[str, Tensor]:
    """One step: the terms that it told, its loss, and whether loss and gradient were `finite`."""
    device = next(iter(task.parameters.values())).device
    for group in task.optimiser.param_groups:
        group["lr"] = step_size * task.learning_rate(step)
    return move(
        task, step, SessionGenerator(device).manual_seed(seed_of(task, step)), task.kl_weight(step)
    )


def seed_of(task: Task, step: int) -> int:
    """A step's random numbers depend on nothing before it."""
    return task.seed * 1_000_003 + step


def move(
    task: Task, step: int, generator: torch.Generator, kl_weight: float | Tensor
) -> dict[str, Tensor]:
    """`take_step` with random numbers, KL weight and learning rate given."""
    loss, terms = task.objective(step, generator, kl_weight)
    task.optimiser.zero_grad(set_to_none=True)
    loss.backward()
    norm, loss = (
        clip_gradients(task.parameters, task.clip, task.processes),
        task.processes.total(loss.detach()),
    )
    task.optimiser.step()
    return task.processes.totals(terms) | {
        "loss": loss,
        "finite": torch.isfinite(loss) & torch.isfinite(norm),
    }
