"""One training loop for fit and align: reports, validates, survives NaN and Ctrl-C, and can go on
where it stopped."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from torch import Tensor

from metadyn.errors import TrainingError
from metadyn.training.execution.capture import stepper
from metadyn.training.execution.optim import optimiser_state, restore_optimiser
from metadyn.training.execution.step import Task

REPORT_EVERY, MAX_RECOVERIES = 10, 8
Item = TypeVar("Item")


@dataclass(frozen=True)
class StepReport:
    """What is shown while recordings are read, started and calibrated (`step` of them) and a model
    trains.

    `terms`: ELBO terms per entry; `validation`: bits per spike; `message`: a warning.
    """

    step: int
    steps: int
    stage: str
    terms: dict[str, float] = field(default_factory=dict)
    validation: dict[str, float] | None = None
    steps_per_second: float = 0.0
    seconds_left: float = 0.0
    message: str | None = None


def reported(
    items: Sequence[Item], stage: str, report: Callable[[StepReport], None]
) -> Iterator[Item]:
    """The items one by one, and a report of how many are done: at first none."""
    report(StepReport(0, len(items), stage))
    for done, item in enumerate(items, 1):
        yield item
        report(StepReport(done, len(items), stage))


@dataclass
class Progress:
    """Where a run stands. `step_size` is halved at each recovery; `best` are the weights of the
    best validation."""

    step: int = 0
    step_size: float = 1.0
    best_score: float = float("-inf")
    best_step: int = 0
    best: dict[str, Tensor] = field(default_factory=dict)
    history: list[dict] = field(default_factory=list)


@contextmanager
def interruptible(patient: bool = False) -> Iterator[Callable[[], bool]]:
    """Ctrl-C (and SIGTERM) is taken note of and acted on between two steps; a second Ctrl-C stops
    at once, unless `patient`."""
    noted: list[int] = []

    def note(number, frame):
        if noted and not patient:
            raise KeyboardInterrupt
        noted.append(number)

    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    previous = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(noted)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def snapshot(task: Task) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Copies of the trained parameters and of the optimiser's state."""
    weights = {name: parameter.detach().clone() for name, parameter in task.parameters.items()}
    return weights, optimiser_state(task.optimiser, task.parameters)


def restore(task: Task, weights: dict[str, Tensor], state: dict[str, Tensor]) -> None:
    with torch.no_grad():
        for name, value in weights.items():
            task.parameters[name].copy_(value)
    task.optimiser.state.clear()
    restore_optimiser(task.optimiser, task.parameters, state)


def look(told: list[dict[str, Tensor]]) -> tuple[dict[str, float], int | None]:
    """What the last of some steps told, and which of them, if any, was the first that was not
    finite."""
    finite = torch.stack([each["finite"] for each in told]).tolist()
    names = [name for name in told[-1] if name != "finite"]
    values = torch.stack([told[-1][name] for name in names]).tolist()
    return dict(zip(names, values, strict=True)), None if all(finite) else finite.index(False)


def run(
    task: Task,
    progress: Progress,
    *,
    report: Callable[[StepReport], None],
    save: Callable[[Progress], None],
) -> Progress:
    """Train to the end. KeyboardInterrupt comes out after a save; a TrainingError when NaN cannot
    be recovered from."""
    good, recoveries = (progress.step, *snapshot(task)), 0
    take, told = stepper(task), []  # told by steps that nobody has looked at
    began, first = time.monotonic(), progress.step
    patient = task.processes.size > 1  # torchrun passes a Ctrl-C on, which comes a second time then
    with interruptible(patient) as interrupted:
        while progress.step < task.steps:
            told.append(take(progress.step, progress.step_size))
            progress.step += 1
            due = progress.step % task.every == 0 or progress.step == task.steps
            if task.static and not due and progress.step % REPORT_EVERY:
                continue
            terms, bad = look(told)
            bad = None if bad is None else progress.step - len(told) + bad
            told.clear()
            if bad is not None:
                recoveries += 1
                go_back(task, progress, good, bad, recoveries > MAX_RECOVERIES, report)
                take = stepper(task)
                continue
            scores = judge(task, progress, terms) if due else None
            if due or progress.step % REPORT_EVERY == 0:
                rate = (progress.step - first) / (time.monotonic() - began)
                left = (task.steps - progress.step) / max(rate, 1e-9)
                report(
                    StepReport(
                        progress.step,
                        task.steps,
                        task.stage(progress.step - 1),
                        terms,
                        scores,
                        rate,
                        left,
                    )
                )
            if due:
                good = (progress.step, *snapshot(task))
            stop = task.processes.any(interrupted())
            if due or stop:
                save(progress)
            if stop:
                raise KeyboardInterrupt
    return progress


def go_back(
    task: Task,
    progress: Progress,
    good: tuple,
    bad: int,
    too_often: bool,
    report: Callable[[StepReport], None],
) -> None:
    """To the last good step, its weights and its optimiser, with half the step size; a
    TrainingError where that was in vain."""
    step, *state = good
    restore(task, *state)
    if too_often:
        raise TrainingError(
            "the loss is not finite, also after smaller steps",
            found=f"step {bad}, step size * {progress.step_size:g}",
            remedy="lower training.learning_rate, or look for units or bins of absurd counts",
        )
    progress.step, progress.step_size = step, progress.step_size / 2
    said = f"the loss was not finite at step {bad}: back to step {step}, step size * {progress.step_size:g}"
    report(StepReport(bad, task.steps, task.stage(bad), message=said))


def judge(task: Task, progress: Progress, terms: dict[str, float]) -> dict[str, float]:
    """Validate, and keep the weights when they are the best so far (never those of the warm start
    alone)."""
    scores = task.validate()
    progress.history.append({"step": progress.step, **terms, **scores})
    score = sum(scores.values())
    if task.stage(progress.step - 1) == "elbo" and score >= progress.best_score:
        progress.best_score, progress.best_step = score, progress.step
        progress.best = snapshot(task)[0]
    return scores
