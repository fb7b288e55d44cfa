"""Training steps as CUDA graphs: one launch a step in place of thousands
(docs/decisions/whole-step-graphs.md)."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable

import torch
from torch import Tensor

from metadyn.model.ops.random import SessionGenerator
from metadyn.training.execution.step import Task, move, seed_of, take_step

# Steps of a stage before it is captured: the optimiser makes its state, libraries choose their
# kernels
WARM_UP = 3

Take = Callable[[int, float], dict[str, Tensor]]  # take_step of a task


def stepper(task: Task) -> Take:
    """take(step, step size), as the task and its device allow."""
    if task.static and next(iter(task.parameters.values())).is_cuda:
        return Captured(task)
    return lambda step, step_size: take_step(task, step, step_size)


class Captured:
    """`take_step` of a static task on a GPU: the first steps of a stage as they are, all others as
    replays of one graph.

    What sets the steps of a stage apart stands outside of the graph: seed of the generator,
    learning rate and KL weight. Weights and the optimiser's state must stay where they are; whoever
    puts others in their place makes a new one of these.
    """

    def __init__(self, task: Task):
        device = next(iter(task.parameters.values())).device
        self.task, self.stream = task, torch.cuda.Stream(device)
        self.generator, self.graphs, self.taken = SessionGenerator(device), {}, Counter()
        self.rate, self.kl_weight = torch.zeros((), device=device), torch.zeros((), device=device)
        for group in task.optimiser.param_groups:
            group["lr"] = self.rate

    def __call__(self, step: int, step_size: float) -> dict[str, Tensor]:
        stage = self.task.stage(step)
        self.generator.manual_seed(seed_of(self.task, step))
        self.rate.fill_(step_size * self.task.learning_rate(step))
        self.kl_weight.fill_(self.task.kl_weight(step))
        self.taken[stage] += 1
        if self.taken[stage] == WARM_UP + 1:
            self.graphs[stage] = self._capture(step)
        if self.graphs.get(stage) is None:
            return self._aside(step)
        graph, told = self.graphs[stage]
        graph.replay()
        return {name: value.clone() for name, value in told.items()}

    def _aside(self, step: int) -> dict[str, Tensor]:
        """The step as it is, on the stream on which others are captured."""
        current = torch.cuda.current_stream(self.stream.device)
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            told = move(self.task, step, self.generator, self.kl_weight)
        current.wait_stream(self.stream)
        return told

    def _capture(self, step: int) -> tuple[torch.cuda.CUDAGraph, dict[str, Tensor]] | None:
        """The graph of a step, which is not taken by that, and where it leaves what it tells; None
        where there can be none."""
        graph, current = torch.cuda.CUDAGraph(), torch.cuda.current_stream(self.stream.device)
        graph.register_generator_state(self.generator)
        try:
            with torch.cuda.graph(graph, stream=self.stream):
                told = move(self.task, step, self.generator, self.kl_weight)
        except RuntimeError as problem:
            torch.cuda.set_stream(current)  # a capture that failed may leave its own
            reason = str(problem).splitlines()[0]
            warnings.warn(
                f"training steps are not captured in a CUDA graph and take longer: {reason}",
                stacklevel=3,
            )
            self.generator = SessionGenerator(self.rate.device).manual_seed(
                seed_of(self.task, step)
            )
            return None
        return graph, told
