"""Progress of long work, kept up to date on a terminal; elsewhere only lines worth keeping.

The parts of rich are imported when something is shown, for help needs none of them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.text import Text

from metadyn.cli.console import NO_BREAK, SHOWN, err, filled, first_process, say, show_note

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from metadyn.training.execution.loop import StepReport


@contextmanager
def on_terminal(*lines: Progress, transient: bool = False) -> Iterator[None]:
    """Keep lines up to date below what is printed meanwhile.

    Where the standard error is no terminal, nothing is shown; nor by any but the first process of
    those that torchrun started.

    Parameters
    ----------
    lines : from top to bottom.
    transient : clear them away at the end.
    """
    console = err()
    if not (console.is_terminal and first_process()):
        yield
        return
    from rich.console import Group
    from rich.live import Live

    shown = Group(*lines)
    both = sys.stdout.isatty()
    live = Live(shown, console=console, transient=transient, redirect_stdout=both)
    SHOWN.append(live)
    try:
        with live:
            yield
    finally:
        SHOWN.remove(live)


@contextmanager
def training_progress() -> Iterator[Callable[[StepReport], None]]:
    """Show training as a bar with stage, steps/s and time left.

    Each validation prints a line of all terms; the verdict follows at the end, below the bar.

    Yields
    ------
    The `report` for `metadyn.fit` and `metadyn.align`, which is called with each step.
    """
    progress = _stage_bar()
    bar = progress.add_task("starting", total=None, speed="")
    verdicts = []

    def report(step: StepReport) -> None:
        if step.stage == "verdict":
            verdicts.append(step.message)
            return
        if step.message:
            show_note(step.message)
        if step.validation:
            _show_validation(step)
        progress.update(
            bar,
            description=step.stage,
            completed=step.step,
            total=step.steps,
            speed=_speed(step),
        )

    with on_terminal(progress):
        yield report
    if first_process():
        for verdict in verdicts:
            say(verdict)


def _stage_bar() -> Progress:
    """A bar for one stage after another: its name, steps made and in all, time left and speed."""
    from rich import progress as parts

    return parts.Progress(
        parts.TextColumn("{task.description}"),
        parts.BarColumn(),
        parts.MofNCompleteColumn(),
        parts.TimeRemainingColumn(),
        parts.TextColumn("{task.fields[speed]}"),
    )


def _show_validation(step: StepReport) -> None:
    """Print the terms of a validation; in a file they are one line, whatever its length."""
    console = err()
    width = console.width if console.is_terminal else None
    console.print(Text(validation_line(step, width)), highlight=False)


@contextmanager
def working(doing: str) -> Iterator[Callable[[str, int, int], None]]:
    """Show what is done and for how long; all vanishes at the end.

    Parameters
    ----------
    doing : a word or two: reading, scoring.

    Yields
    ------
    The `progress` of downloads, called with name, bytes so far and bytes in all. Each download has
    a bar with bytes, speed and time left, until it is complete.
    """
    from rich import progress as parts

    line = parts.Progress(parts.TextColumn("{task.description}"), parts.TimeElapsedColumn())
    line.add_task(doing, total=None)
    bars = parts.Progress(
        parts.TextColumn("{task.description}"),
        parts.BarColumn(),
        parts.DownloadColumn(),
        parts.TransferSpeedColumn(),
        parts.TimeRemainingColumn(),
    )
    bar_of: dict[str, TaskID] = {}

    def progress(name: str, done: int, total: int) -> None:
        if name not in bar_of:
            bar_of[name] = bars.add_task(name, total=total)
        bars.update(bar_of[name], completed=done, visible=done < total)

    with on_terminal(line, bars, transient=True):
        yield progress


def validation_line(step: StepReport, width: int | None) -> str:
    """A validation as text: stage, step, terms of the objective, speed and time left.

    Parameters
    ----------
    step : with the terms of training and of the validation.
    width : lines are broken at it, between the terms; None: one line.
    """
    values = step.terms | (step.validation or {})
    terms = [f"{name} {value:.4g}" for name, value in values.items()]
    ends = [_speed(step), f"{step.seconds_left:.0f} s left"]
    parts = [f"{step.stage} {step.step}/{step.steps}", *terms, *ends]
    line = " ".join(part.replace(" ", NO_BREAK) for part in parts if part)
    return line.replace(NO_BREAK, " ") if width is None else filled(line, width)


def _speed(step: StepReport) -> str:
    """Steps per second; nothing before the first ones are timed."""
    return f"{step.steps_per_second:.1f} steps/s" if step.steps_per_second else ""
