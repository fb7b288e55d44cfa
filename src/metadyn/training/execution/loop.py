"""One training loop for fit and align: reports, validates, survives NaN and Ctrl-C, and can go on
where it stopped."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import TypeVar

import torch
from torch import Tensor

from metadyn.errors import TrainingError
from metadyn.training.execution.capture import stepper
from metadyn.training.execution.optim import optimiser_state, restore_optimiser
from metadyn.training.execution.step import Metrics, Task

REPORT_EVERY = 10
MAX_RECOVERIES = 8
Item = TypeVar("Item")


@dataclass(frozen=True)
class StepReport:
    """How far a run is, while recordings are read, initialised and calibrated (`step` of them) and
    while a model trains.

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


Reporter = Callable[[StepReport], None]


def silent(_: object) -> None:
    """Report or save nothing."""


def reported(items: Sequence[Item], stage: str, report: Reporter) -> Iterator[Item]:
    """The items one by one, with a report of how many are done: none at first."""
    report(StepReport(0, len(items), stage))
    for done, item in enumerate(items, 1):
        yield item
        report(StepReport(done, len(items), stage))


@dataclass
class Progress:
    """How far a run is.

    step_size: halved at each recovery. best: the weights of the best validation, which was at
    `best_step`. history: metrics and scores of each validation.
    """

    step: int = 0
    step_size: float = 1.0
    best_score: float = float("-inf")
    best_step: int = 0
    best: dict[str, Tensor] = field(default_factory=dict)
    history: list[dict] = field(default_factory=list)


@dataclass(frozen=True)
class Snapshot:
    """Copies of the weights and of the optimiser's state after some steps, to go back to."""

    step: int
    weights: dict[str, Tensor]
    state: dict[str, Tensor]


@contextmanager
def interruptible(patient: bool = False) -> Iterator[Callable[[], bool]]:
    """Ctrl-C (and SIGTERM) is noted, to be acted on between two steps.

    Yields a function that says whether there was one. A second Ctrl-C stops at once, unless
    `patient`.
    """
    noted: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
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


def copy_weights(task: Task) -> dict[str, Tensor]:
    """Copies of the trained parameters by name."""
    return {name: parameter.detach().clone() for name, parameter in task.parameters.items()}


def take_snapshot(task: Task, step: int) -> Snapshot:
    """Copies of the trained parameters and of the optimiser's state."""
    return Snapshot(step, copy_weights(task), optimiser_state(task.optimiser, task.parameters))


def restore(task: Task, weights: dict[str, Tensor], state: dict[str, Tensor]) -> None:
    """Put weights and optimiser's state, each by name, into a task.

    They are copied, so that a snapshot can be restored more than once.
    """
    with torch.no_grad():
        for name, value in weights.items():
            task.parameters[name].copy_(value)
    # Also of parameters that had none yet: their moments may be NaN
    task.optimiser.state.clear()
    restore_optimiser(task.optimiser, task.parameters, state)


def read_metrics(steps: list[Metrics]) -> tuple[dict[str, float], int | None]:
    """The metrics of the last of some steps, and which step, if any, was the first not finite.

    This waits for the device, once for all steps.
    """
    finite = torch.stack([each["finite"] for each in steps]).tolist()
    names = [name for name in steps[-1] if name != "finite"]
    values = torch.stack([steps[-1][name] for name in names]).tolist()
    return dict(zip(names, values, strict=True)), None if all(finite) else finite.index(False)


class Clock:
    """How fast a run goes, from its first step in this process."""

    def __init__(self, first: int) -> None:
        """Begin at this step of the run."""
        self.first = first
        self.began = time.monotonic()

    def report(
        self,
        task: Task,
        progress: Progress,
        terms: dict[str, float],
        scores: dict[str, float] | None,
    ) -> StepReport:
        """The report of the last step, with the time that the steps left will take.

        terms: its metrics. scores: of the validation after it, if there was one.
        """
        rate = (progress.step - self.first) / (time.monotonic() - self.began)
        left = (task.steps - progress.step) / max(rate, 1e-9)
        stage = task.stage(progress.step - 1).name
        return StepReport(progress.step, task.steps, stage, terms, scores, rate, left)


def run(
    task: Task, progress: Progress, *, report: Reporter, save: Callable[[Progress], None]
) -> Progress:
    """Train to the end of the last stage, from the step that `progress` is at.

    task: what is trained; its weights are changed.
    progress: changed too, and returned.
    report: called at every tenth step, validation and recovery.
    save: called after every validation.

    Raises KeyboardInterrupt after a save, TrainingError when NaN cannot be recovered from.
    """
    good = take_snapshot(task, progress.step)
    recoveries = 0
    take = stepper(task)
    unread: list[Metrics] = []  # of steps since metrics were last read
    clock = Clock(progress.step)
    patient = task.processes.size > 1  # torchrun passes a Ctrl-C on, which comes a second time then
    with interruptible(patient) as interrupted:
        while progress.step < task.steps:
            unread.append(take(progress.step, progress.step_size))
            progress.step += 1
            due = progress.step % task.every == 0 or progress.step == task.steps
            # Of a static task nothing is read between reports: it would wait for the device
            if task.static and not due and progress.step % REPORT_EVERY:
                continue
            terms, bad = read_metrics(unread)
            bad = None if bad is None else progress.step - len(unread) + bad
            unread.clear()
            if bad is not None:
                # The optimiser's state is now elsewhere, so a graph would be captured anew
                recoveries += 1
                recover(task, progress, good, bad, recoveries > MAX_RECOVERIES, report)
                take = stepper(task)
                continue
            scores = score_held_out(task, progress, terms) if due else None
            if due or progress.step % REPORT_EVERY == 0:
                report(clock.report(task, progress, terms, scores))
            if due:
                # Metrics up to here are finite, and so are the weights that were scored
                good = take_snapshot(task, progress.step)
            stop = task.processes.any(interrupted())
            if due or stop:
                save(progress)
            if stop:
                raise KeyboardInterrupt
    return progress


def recover(
    task: Task, progress: Progress, good: Snapshot, bad: int, too_often: bool, report: Reporter
) -> None:
    """Go back to the last good step with half the step size, after a step (`bad`) that was not
    finite.

    Raises a TrainingError where that was tried too often.
    """
    restore(task, good.weights, good.state)
    if too_often:
        raise TrainingError(
            "the loss is not finite, also after smaller steps",
            found=f"step {bad}, step size * {progress.step_size:g}",
            remedy="lower training.learning_rate, or look for units or bins of absurd counts",
        )
    progress.step = good.step
    progress.step_size /= 2
    back = f"back to step {good.step}, step size * {progress.step_size:g}"
    message = f"the loss was not finite at step {bad}: {back}"
    report(StepReport(bad, task.steps, task.stage(bad).name, message=message))


def score_held_out(task: Task, progress: Progress, terms: dict[str, float]) -> dict[str, float]:
    """Validate, and keep the weights if they are the best of a stage that may choose them.

    The best have the largest sum of scores; of equal sums the later.
    """
    scores = task.validate()
    progress.history.append({"step": progress.step, **terms, **scores})
    score = sum(scores.values())
    stage = task.stage(progress.step - 1)
    if stage.chooses_best and score >= progress.best_score:
        progress.best_score = score
        progress.best_step = progress.step
        progress.best = copy_weights(task)
    return scores
