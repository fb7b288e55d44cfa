"""`metadyn fit`: one model of all files.

Settings are looked for in this order: an option given here, the configuration file (--config), the
preset (--preset), the package's own default. Each key of the sections [data], [model] and
[training] is an option.

The output folder keeps the best model by the validation windows, which other commands read, and the
last state of the run, from which --resume goes on. On a terminal a bar shows stage, speed and time
left; each validation prints its terms, and a verdict on the fit follows at the end.

In Python: `metadyn.fit(["day1.nwb", "day2.nwb"], "model")`
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import metadyn
from metadyn.cli.console import first_process, kept_on_interrupt, say
from metadyn.cli.options import ConfigFile, Device, Files, SkipBad, config_flags
from metadyn.cli.progress import training_progress
from metadyn.config import load_config


@config_flags("data", "model", "training")
def fit(
    files: Files,
    output: Annotated[Path, typer.Option("--output", "-o", help="folder for the model")],
    config: ConfigFile = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="go on with the run that the folder holds")
    ] = False,
    device: Device = "auto",
    deterministic: Annotated[
        bool,
        typer.Option(
            "--deterministic", help="the same weights each time on this machine; slower on a GPU"
        ),
    ] = False,
    memory: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="GiB of counts held in memory, all others on disk; "
            "default: a quarter of what is free",
        ),
    ] = None,
    skip_bad: SkipBad = False,
    *,
    flags: dict,
) -> None:
    """Train one model on all files; by several processes where torchrun starts it.

    Example: [bold]metadyn fit day1.nwb day2.nwb -o model --bin-width 0.02[/bold]
    """
    settings = load_config(config, **flags)
    kept = f"If a step was made, it is kept: the same command with --resume goes on in {output}."
    with kept_on_interrupt(kept), training_progress() as report:
        trained = metadyn.fit(
            files,
            output,
            settings,
            resume=resume,
            device=device,
            deterministic=deterministic,
            memory=memory,
            skip_bad=skip_bad,
            report=report,
        )
        if first_process():
            say(f"model of {len(trained.sessions)} sessions: {output}")
