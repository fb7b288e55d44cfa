"""`metadyn fetch`: NWB files of a dandiset, or only what the other commands need of them.

A line for each file: its path where it was downloaded; with --stream its address, which other
commands take in place of a file, and the units, spikes and interval tables in it.

In Python: `metadyn.fetch("000140/sub-Jenkins", "recordings")`
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import metadyn
from metadyn.cli.console import kept_on_interrupt, say
from metadyn.cli.progress import working

if TYPE_CHECKING:
    from metadyn.nwb.addresses import Asset
    from metadyn.records import Session


def fetch(
    what: Annotated[
        str,
        typer.Argument(
            help="dandiset, folder or file in it, or address", metavar="DANDISET[/PATH]"
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="folder for the files")] = Path(
        "."
    ),
    stream: Annotated[
        bool,
        typer.Option(
            "--stream",
            help="download no file, only the units and intervals, for the commands that follow",
        ),
    ] = False,
) -> None:
    """Download NWB files of a dandiset, or (--stream) only what the other commands need of them.

    DANDISET/PATH is 000123, 000123@draft/sub-A, dandi://… or https://…; every other command takes
    dandi://… and https://… too, in place of an NWB file, and reads there what it needs. That is
    kept in ~/.cache/ndx-metadyn, or where METADYN_CACHE says. A download that was broken off goes
    on from where it was. (The listing of a dandiset is untested.)

    Example: [bold]metadyn fetch 000140/sub-Jenkins -o recordings[/bold]
    """
    from metadyn.pipeline import sharing

    if stream:
        for asset, session in sharing.stream(what):
            show_session(asset, session)
        return
    with (
        kept_on_interrupt("What was fetched is kept: the same command goes on."),
        working("fetching") as progress,
    ):
        metadyn.fetch(what, output, report=say, progress=progress)


def show_session(asset: Asset, session: Session) -> None:
    """Print a session in one line, with its file and the address that other commands take."""
    tables = [f"{name} ({len(table)})" for name, table in session.intervals.items()]
    units = f"{session.n_units} units, {len(session.spike_times)} spikes"
    say(f"{asset.path}  {asset}  {units}; {', '.join(tables) or 'no interval table'}")
