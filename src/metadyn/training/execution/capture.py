"""Training steps as CUDA graphs: one launch a step in place of thousands
(docs/decisions/whole-step-graphs.md)."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable

import torch

from metadyn.model.ops.random import SessionGenerator
from metadyn.training.execution.step import Metrics, Task, apply_step, seed_of, take_step
from metadyn.training.execution.trials import SessionTrials

# Steps of a stage before it is captured: the optimiser makes its state, libraries choose their
# kernels
WARM_UP = 3

# (step, step size) → metrics, as `take_step` of a task
TakeStep = Callable[[int, float], Metrics]


def is_static(trials: SessionTrials) -> bool:
    """Whether steps on these trials need nothing of the host.

    They do not where all trials are on a device that works on its own, and no process waits for
    another.
    """
    return trials.complete and trials.device.type != "cpu" and trials.processes.size == 1


def stepper(task: Task) -> TakeStep:
    """take(step, step size): one graph a stage if the task is static and on a GPU, else
    `take_step`."""
    if task.static and task.device.type == "cuda":
        return CapturedSteps(task)
    return lambda step, step_size: take_step(task, step, step_size)


class CapturedSteps:
    """`take_step` of a static task on a GPU: the first steps of a stage as they are, all others as
    replays of one graph.

    The steps of a stage differ in the seed of the generator, the learning rate and the KL weight,
    which are set outside of the graph. Weights and the optimiser's state must stay where they are;
    whoever puts others in their place makes a new one of these.
    """

    def __init__(self, task: Task) -> None:
        """Put the learning rate of the task's optimiser on the device."""
        self.task = task
        self.stream = torch.cuda.Stream(task.device)
        self.generator = SessionGenerator(task.device)
        self.graphs: dict[str, tuple[torch.cuda.CUDAGraph, Metrics] | None] = {}
        self.taken: Counter[str] = Counter()
        self.rate = torch.zeros((), device=task.device)
        self.kl_weight = torch.zeros((), device=task.device)
        for group in task.optimiser.param_groups:
            group["lr"] = self.rate

    def __call__(self, step: int, step_size: float) -> Metrics:
        """Take a step of the run; a stage is captured after `WARM_UP` of its steps."""
        stage = self.task.stage(step).name
        self.generator.manual_seed(seed_of(self.task, step))
        self.rate.fill_(step_size * self.task.learning_rate(step))
        self.kl_weight.fill_(self.task.kl_weight(step))
        self.taken[stage] += 1
        if self.taken[stage] == WARM_UP + 1:
            self.graphs[stage] = self._capture(step)
        captured = self.graphs.get(stage)
        if captured is None:
            return self._aside(step)
        graph, metrics = captured
        graph.replay()
        # The next replay writes to the same tensors
        return {name: value.clone() for name, value in metrics.items()}

    def _aside(self, step: int) -> Metrics:
        """The step as it is, on the stream on which others are captured."""
        current = torch.cuda.current_stream(self.stream.device)
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            metrics = apply_step(self.task, step, self.generator, self.kl_weight)
        current.wait_stream(self.stream)
        return metrics

    def _capture(self, step: int) -> tuple[torch.cuda.CUDAGraph, Metrics] | None:
        """The graph of a step, and the tensors that a replay writes its metrics to.

        Capturing does not take the step. None, with a warning, for a step that cannot be captured.
        """
        graph = torch.cuda.CUDAGraph()
        current = torch.cuda.current_stream(self.stream.device)
        graph.register_generator_state(self.generator)
        try:
            with torch.cuda.graph(graph, stream=self.stream):
                metrics = apply_step(self.task, step, self.generator, self.kl_weight)
        except RuntimeError as problem:
            torch.cuda.set_stream(current)  # a capture that failed may leave its own
            reason = str(problem).splitlines()[0]
            warnings.warn(
                f"training steps are not captured in a CUDA graph and take longer: {reason}",
                stacklevel=3,
            )
            # The generator still belongs to the graph that failed
            self.generator = SessionGenerator(self.rate.device)
            self.generator.manual_seed(seed_of(self.task, step))
            return None
        return graph, metrics
