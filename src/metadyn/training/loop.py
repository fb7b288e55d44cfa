"""One training loop for fit and align: reports, validates, survives NaN and Ctrl-C, and can go on where it stopped."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from metadyn.errors import TrainingError
from metadyn.model.numbers import Numbers
from metadyn.training.clip import clip_gradients
from metadyn.training.optim import optimiser_state, restore_optimiser
from metadyn.training.ranks import ALONE, Alone

REPORT_EVERY, MAX_RECOVERIES = 10, 8


@dataclass(frozen=True)
class StepReport:
    """What is shown while recordings are read (`step` of them) and a model trains.

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


@dataclass
class Progress:
    """Where a run stands. `step_size` is halved at each recovery; `best` are the weights of the best validation."""

    step: int = 0
    step_size: float = 1.0
    best_score: float = float("-inf")
    best_step: int = 0
    best: dict[str, Tensor] = field(default_factory=dict)
    history: list[dict] = field(default_factory=list)


@dataclass(frozen=True)
class Task:
    """What a loop trains: named parameters of `module`, objective(step, generator) → (loss, terms), validate() → scores.

    Of several processes (`ranks`) each has a part of module and objective; scores are of all.
    """

    module: nn.Module
    parameters: dict[str, nn.Parameter]
    optimiser: torch.optim.Optimizer
    objective: Callable[[int, torch.Generator], tuple[Tensor, dict[str, float]]]
    validate: Callable[[], dict[str, float]]
    learning_rate: Callable[[int], float]
    stage: Callable[[int], str]
    steps: int
    clip: float
    every: int
    seed: int
    ranks: Alone = ALONE


@contextmanager
def interruptible(patient: bool = False) -> Iterator[Callable[[], bool]]:
    """Ctrl-C (and SIGTERM) is taken note of and acted on between two steps; a second Ctrl-C stops at once, unless `patient`."""
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


def take_step(task: Task, step: int, step_size: float) -> dict[str, float] | None:
    """One step; None where loss or gradient is not finite (then nothing was changed)."""
    device = next(iter(task.parameters.values())).device
    generator = Numbers(device).manual_seed(task.seed * 1_000_003 + step)  # a step's numbers depend on nothing before it
    loss, terms = task.objective(step, generator)
    task.optimiser.zero_grad(set_to_none=True)
    loss.backward()
    norm, loss = clip_gradients(task.parameters, task.clip, task.ranks), task.ranks.total(loss.detach())
    if not (torch.isfinite(loss) and torch.isfinite(norm)):
        return None
    for group in task.optimiser.param_groups:
        group["lr"] = step_size * task.learning_rate(step)
    task.optimiser.step()
    return task.ranks.totals(terms) | {"loss": float(loss)}


def run(
    task: Task,
    progress: Progress,
    *,
    report: Callable[[StepReport], None],
    save: Callable[[Progress], None],
) -> Progress:
    """Train to the end. KeyboardInterrupt comes out after a save; a TrainingError when NaN cannot be recovered from."""
    good, good_step, recoveries = snapshot(task), progress.step, 0
    began, first = time.monotonic(), progress.step
    patient = task.ranks.size > 1  # torchrun passes a Ctrl-C on, which comes a second time then
    with interruptible(patient) as interrupted:
        while progress.step < task.steps:
            terms = take_step(task, progress.step, progress.step_size)
            if terms is None:
                recoveries += 1
                if recoveries > MAX_RECOVERIES:
                    raise TrainingError(
                        "the loss is not finite, also after smaller steps",
                        found=f"step {progress.step}, step size * {progress.step_size:g}",
                        remedy="lower training.learning_rate, or look for units or bins of absurd counts",
                    )
                restore(task, *good)
                progress.step_size /= 2
                report(
                    StepReport(
                        progress.step,
                        task.steps,
                        task.stage(progress.step),
                        message=(
                            f"the loss was not finite at step {progress.step}: back to step {good_step}, "
                            f"step size * {progress.step_size:g}"
                        ),
                    )
                )
                progress.step = good_step
                continue
            progress.step += 1
            due = progress.step % task.every == 0 or progress.step == task.steps
            scores = judge(task, progress, terms) if due else None
            if due or progress.step % REPORT_EVERY == 0:
                rate = (progress.step - first) / (time.monotonic() - began)
                left = (task.steps - progress.step) / max(rate, 1e-9)
                report(StepReport(progress.step, task.steps, task.stage(progress.step - 1), terms, scores, rate, left))
            if due:
                good, good_step = snapshot(task), progress.step
            stop = task.ranks.any(interrupted())
            if due or stop:
                save(progress)
            if stop:
                raise KeyboardInterrupt
    return progress


def judge(task: Task, progress: Progress, terms: dict[str, float]) -> dict[str, float]:
    """Validate, and keep the weights when they are the best so far (never those of the warm start alone)."""
    scores = task.validate()
    progress.history.append({"step": progress.step, **terms, **scores})
    score = sum(scores.values())
    if task.stage(progress.step - 1) == "elbo" and score >= progress.best_score:
        progress.best_score, progress.best_step = score, progress.step
        progress.best = snapshot(task)[0]
    return scores
