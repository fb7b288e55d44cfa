"""One training step: loss, gradients, clipping, optimiser."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from metadyn.model.ops.random import SessionGenerator
from metadyn.training.execution.clip import clip_gradients
from metadyn.training.execution.distributed import SINGLE_PROCESS, SingleProcess

# Names of the stages, as reports have them
PRETRAINING = "pretrain"
EVIDENCE = "elbo"
Metrics = dict[str, Bool[Tensor, ""] | Float[Tensor, ""]]
# (step of the stage, random numbers, weight of the KL terms) → (loss, metrics)
Objective = Callable[[int, torch.Generator, float | Tensor], tuple[Tensor, Metrics]]
# A learning rate or weight by step of the stage
Schedule = Callable[[int], float]
Module = TypeVar("Module", bound=nn.Module)


@dataclass(frozen=True)
class Stage:
    """Consecutive steps that minimise one objective, counted from the stage's first, which is 0.

    name: shown in reports.
    steps: how many there are.
    objective: gives the loss and metrics of a step.
    learning_rate, kl_weight: of a step.
    chooses_best: validations within the stage may choose the weights that the run ends with.
    """

    name: str
    steps: int
    objective: Objective
    learning_rate: Schedule
    kl_weight: Schedule
    chooses_best: bool = True


@dataclass(frozen=True)
class Task(Generic[Module]):
    """A model to train, and the stages that it goes through.

    module: the model; of several processes, of this process's sessions.
    parameters: those of the module that are trained, by name.
    stages: in the order in which they come, each after the last step of the one before.
    validate: gives the scores of all sessions, called after every `every` steps.
    clip: the largest norm of a step's gradient.
    seed: of the random numbers of all steps.
    processes: those that share the sessions.
    static: every step of a stage is the same operations on tensors of the same shapes, and its
        metrics are read when they are reported, not before (`metadyn.training.execution.capture`).
    """

    module: Module
    parameters: dict[str, nn.Parameter]
    optimiser: torch.optim.Optimizer
    stages: tuple[Stage, ...]
    validate: Callable[[], dict[str, float]]
    clip: float
    every: int
    seed: int
    processes: SingleProcess = SINGLE_PROCESS
    static: bool = False

    @property
    def steps(self) -> int:
        """Steps of all stages."""
        return sum(stage.steps for stage in self.stages)

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(iter(self.parameters.values())).device

    def stage(self, step: int) -> Stage:
        """The stage that a step of the run belongs to."""
        return locate(self.stages, step)[0]

    def learning_rate(self, step: int) -> float:
        """The learning rate of a step of the run."""
        stage, step_of_stage = locate(self.stages, step)
        return stage.learning_rate(step_of_stage)

    def kl_weight(self, step: int) -> float:
        """The weight of the KL terms at a step of the run."""
        stage, step_of_stage = locate(self.stages, step)
        return stage.kl_weight(step_of_stage)


def locate(stages: tuple[Stage, ...], step: int) -> tuple[Stage, int]:
    """The stage that a step of a run belongs to, and the number of the step within the stage.

    Steps after the end are of the last stage.
    """
    *earlier, last = stages
    for stage in earlier:
        if step < stage.steps:
            return stage, step
        step -= stage.steps
    return last, step


def take_step(task: Task, step: int, step_size: float) -> Metrics:
    """One step with its own random numbers, learning rate (times `step_size`) and KL weight.

    Returns the metrics of the objective, the `loss`, and whether loss and gradient were `finite`.
    """
    for group in task.optimiser.param_groups:
        group["lr"] = step_size * task.learning_rate(step)
    generator = SessionGenerator(task.device).manual_seed(seed_of(task, step))
    return apply_step(task, step, generator, task.kl_weight(step))


def seed_of(task: Task, step: int) -> int:
    """The seed of a step's random numbers, which depend on nothing before the step."""
    return task.seed * 1_000_003 + step


def apply_step(
    task: Task, step: int, generator: torch.Generator, kl_weight: float | Tensor
) -> Metrics:
    """`take_step` with random numbers and KL weight given, and the optimiser's learning rate."""
    stage, step_of_stage = locate(task.stages, step)
    loss, metrics = stage.objective(step_of_stage, generator, kl_weight)
    task.optimiser.zero_grad(set_to_none=True)
    loss.backward()
    # Each process has the loss and the gradient of its own sessions; from here on those of all
    norm = clip_gradients(task.parameters, task.clip, task.processes)
    loss = task.processes.total(loss.detach())
    task.optimiser.step()
    finite = torch.isfinite(loss) & torch.isfinite(norm)
    return task.processes.totals(metrics) | {"loss": loss, "finite": finite}
