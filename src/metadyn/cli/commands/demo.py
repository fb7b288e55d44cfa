"""`metadyn demo`: the main job on sessions whose truth is known.

It takes minutes on a CPU. Below the folder are the simulated files, three models and the annotated
files, to try the other commands on, and demo.png where matplotlib is installed.

In Python: `metadyn.demo("demo")`
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from rich.table import Table

import metadyn
from metadyn.cli.console import err, kept_on_interrupt, out, say
from metadyn.cli.options import Device
from metadyn.cli.progress import training_progress

if TYPE_CHECKING:
    from metadyn.pipeline.demo import DemoResult


def demo(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="folder for files, models and the figure")
    ] = Path("demo"),
    seed: Annotated[int, typer.Option(min=0, help="seed of the simulation and the training")] = 0,
    device: Device = "auto",
) -> None:
    """Simulate eight sessions, train on them, align a ninth, annotate all nine and compare with
    shared dynamics.

    Example: [bold]metadyn demo -o demo[/bold]
    """

    def note(what: str) -> None:
        err().print(what, highlight=False)

    with (
        kept_on_interrupt(f"Finished models and files are in {output}."),
        training_progress() as report,
    ):
        found = metadyn.demo(output, seed=seed, device=device, report=report, say=note)
    show_demo(found, drawn(found, output / "demo.png"))


def drawn(found: DemoResult, path: Path) -> Path | None:
    """Draw the figure of the demo, if matplotlib is installed.

    Parameters
    ----------
    found : results of the demo.
    path : for the picture.

    Returns
    -------
    The path; None where matplotlib is not installed.
    """
    try:
        from metadyn.pipeline.demo_figure import draw
    except ModuleNotFoundError:
        return None
    return draw(found, path)


def show_demo(found: DemoResult, figure: Path | None) -> None:
    """Print embeddings beside true speeds, and forecasts beside those of shared dynamics.

    A line a session, the new one last; r² is 1 for the true rates, 0 for the mean rate of each
    trial, `-` where shared dynamics do not know the session.

    Parameters
    ----------
    found : results of the demo.
    figure : path of its picture, if there is one.
    """
    from metadyn.pipeline.demo import HORIZONS, SHOTS

    headings = [f"{which}k={horizon}" for which in ("", "shared ") for horizon in HORIZONS]
    title = "r² of forecast rates against true ones, k bins ahead, on trials not trained on"
    first = ("session", "speed", "embedding")
    table = Table(*first, *headings, title=title, box=None, padding=(0, 1, 0, 0))
    for row in range(len(found.sessions)):
        scores = [*found.low_rank[row], *found.shared[row]]
        shown = ["-" if np.isnan(value) else f"{value:.2f}" for value in scores]
        label = f"new, {SHOTS} trials" if row == len(found.sessions) - 1 else str(row)
        table.add_row(label, f"{found.speeds[row]:.2f}", f"{found.embeddings[row]:+.2f}", *shown)
    out().print(table)
    gap = float((found.low_rank[:-1, -1] - found.shared[:-1, -1]).mean())
    above = f"r² at k={HORIZONS[-1]} above shared dynamics, mean of the training sessions"
    folder = found.files[0].parents[1]
    say(f"Spearman of embedding and speed: {found.spearman:+.3f}")
    say(f"{above}: {gap:+.2f}")
    say(f"{len(found.files)} annotated files without a new validation error: {folder}")
    say(f"figure: {figure or 'none, matplotlib is not installed'}")
