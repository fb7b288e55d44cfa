"""`metadyn simulate`: NWB files of spikes whose latent dynamics are known.

The files hold the true latents and rates beside the spikes. The path of each is printed.

In Python: `metadyn.simulate("limit-cycle", "simulated", n_sessions=4)`
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import metadyn
from metadyn.cli.console import say
from metadyn.data.families import FAMILIES

EPILOG = "\n\n".join(f"{name}: {family.about}" for name, family in FAMILIES.items())


def simulate(
    family: Annotated[str, typer.Argument(help="family of dynamical systems, see below")],
    output: Annotated[Path, typer.Option("--output", "-o", help="folder for the files")],
    sessions: Annotated[
        int, typer.Option(min=1, help="how many sessions, of evenly spread parameters")
    ] = 8,
    trials: Annotated[int, typer.Option(min=1, help="trials in a session")] = 48,
    bins: Annotated[int, typer.Option(min=2, help="bins of 20 ms in a trial")] = 150,
    seed: Annotated[int, typer.Option(min=0, help="seed of every random number")] = 0,
) -> None:
    """Simulate sessions of spiking units whose latent dynamics are known, and write them as NWB
    files.

    Example: [bold]metadyn simulate limit-cycle -o simulated --sessions 4[/bold]
    """
    sizes = {"n_sessions": sessions, "n_trials": trials, "n_bins": bins}
    for path in metadyn.simulate(family, output, seed=seed, **sizes):
        say(path)
