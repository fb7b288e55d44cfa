"""`metadyn derive`: a slim file without the raw data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import metadyn
from metadyn.cli.console import MOST_ROWS, say
from metadyn.cli.progress import working


def derive(
    file: Annotated[str, typer.Argument(help="annotated NWB file, or its address")],
    output: Annotated[Path, typer.Option("--output", "-o", help="the derived file")],
    recording: Annotated[
        str | None,
        typer.Option(
            help="the recording (or its address) that FILE is an annotated copy of, "
            "to be named in its stead"
        ),
    ] = None,
    uri: Annotated[
        str | None,
        typer.Option(
            help="where others find the recording, e.g. its address on DANDI; "
            "default: its file name"
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="replace the file if it exists")
    ] = False,
) -> None:
    """Write a slim file to be shared: runs, models, units, intervals and metadata, without the raw
    data.

    It stands alone (no links to other files), has an identifier of its own, and keeps name and
    sha256 digest of what it was derived from in the parameters of each run.

    Example: [bold]metadyn derive annotated/day1.nwb -o derived/day1.nwb[/bold]
    """
    from metadyn.pipeline import sharing

    with working("deriving") as progress:
        written = metadyn.derive(
            file, output, recording=recording, uri=uri, overwrite=overwrite, progress=progress
        )
    say(written)
    show_left_out(sharing.left_out(file))


def show_left_out(paths: list[str]) -> None:
    """Print the objects that a derived file is without, in one line; nothing without any.

    Parameters
    ----------
    paths : inside the file; the first MOST_ROWS are named, the rest is counted.
    """
    if not paths:
        return
    more = f" and {len(paths) - MOST_ROWS} more" if len(paths) > MOST_ROWS else ""
    say(f"left out: {', '.join(paths[:MOST_ROWS])}{more}")
