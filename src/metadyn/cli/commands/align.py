"""`metadyn align`: a new recording for a model that exists.

The given model stays as it is; the output is a model of its sessions and the new one, which every
command takes in its place. Windows are those of the model's training but for options given here,
e.g. other trials (--where) or labels that place the recording (--condition). The section [align] of
a configuration file gives the steps and the rest; options go before it. On a terminal a bar shows
the progress, and a verdict on the new session is printed at the end.

In Python: `metadyn.align("model", "day3.nwb", "model3", trials=8)`
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import metadyn
from metadyn.cli.console import say
from metadyn.cli.options import ConfigFile, Device, File, Model, chosen, config_flags
from metadyn.cli.progress import training_progress
from metadyn.config import load_config


@config_flags("data", "align")
def align(
    model: Model,
    file: File,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="folder for the model that knows the new session too"),
    ],
    config: ConfigFile = None,
    trials: Annotated[
        int | None, typer.Option(min=1, help="use only that many windows, evenly spread")
    ] = None,
    device: Device = "auto",
    *,
    flags: dict,
) -> None:
    """Teach a model a new recording from a few trials: a new read-in and readout, the dynamics
    stay.

    Example: [bold]metadyn align model day3.nwb -o model3 --trials 8[/bold]
    """
    settings = load_config(config, align=flags["align"])
    with training_progress() as report:
        aligned = metadyn.align(
            model,
            file,
            output,
            settings,
            data=chosen(flags),
            trials=trials,
            device=device,
            report=report,
        )
        say(f"model of {len(aligned.sessions)} sessions: {output}")
