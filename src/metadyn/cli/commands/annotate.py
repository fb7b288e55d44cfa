"""`metadyn annotate`: latents, rates, embeddings and the model into NWB files.

What is written is one run in /processing: a LatentDynamics container with its parameters, each
series aligned to the windows that the model infers. A file is written to a private name first and
validated, so that no path ever holds half a file: either the annotated file, or what was
there before.

Output: an annotated copy of each file in the folder (--output), the slim file without raw data
(--derive), or the file itself (--in-place). One line is printed for each file as soon as it is
complete, and after Ctrl-C it stays.

In Python: `metadyn.annotate("model", ["day1.nwb", "day2.nwb"], "annotated")`
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import metadyn
from metadyn.cli.console import kept_on_interrupt, say
from metadyn.cli.options import Device, Files, Model, SkipBad, chosen, config_flags
from metadyn.cli.progress import working


@config_flags("data")
def annotate(
    model: Model,
    files: Files,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="folder for annotated copies")
    ] = None,
    in_place: Annotated[
        bool, typer.Option("--in-place", help="replace each file whole by its annotated copy")
    ] = False,
    name: Annotated[str, typer.Option(help="name of the run in the file")] = "LatentDynamics",
    embed_model: Annotated[
        bool, typer.Option("--embed-model/--no-model", help="store the model in each file")
    ] = True,
    derive: Annotated[
        bool,
        typer.Option(
            "--derive",
            help="write slim files without the raw data, to be shared (as metadyn derive does)",
        ),
    ] = False,
    context: Annotated[
        int | None,
        typer.Option(
            min=1, help="also store forecasts after this many bins, of the windows that have more"
        ),
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="bins to forecast")] = 20,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="replace files that exist in the folder")
    ] = False,
    skip_bad: SkipBad = False,
    device: Device = "auto",
    *,
    flags: dict,
) -> None:
    """Write latents, rates, embeddings and the model into copies of the files (or into the files,
    --in-place).

    Example: [bold]metadyn annotate model day1.nwb day2.nwb -o annotated[/bold]
    """
    kept = kept_on_interrupt("Files named above are written; the others are as they were.")
    with kept, working("annotating") as progress:
        metadyn.annotate(
            model,
            files,
            output,
            in_place=in_place,
            name=name,
            embed_model=embed_model,
            derive=derive,
            context=context,
            steps=steps,
            data=chosen(flags),
            overwrite=overwrite,
            skip_bad=skip_bad,
            device=device,
            report=say,
            progress=progress,
        )
