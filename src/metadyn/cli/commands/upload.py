"""`metadyn upload`: a dandiset to the archive.

The plan is printed whether it is carried out or not. The exit code is 1 where something stands in
the way of it.

In Python: `metadyn.upload("dandiset", dry_run=True)`
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

import metadyn
from metadyn.cli.console import out, say

if TYPE_CHECKING:
    from metadyn.sharing.upload import Plan


def upload(
    folder: Annotated[Path, typer.Argument(help="folder of a dandiset, from metadyn package")],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="only show what would be sent")
    ] = False,
    instance: Annotated[
        str, typer.Option(help="archive, as dandi names it: dandi, dandi-sandbox, …")
    ] = "dandi",
) -> None:
    """Upload a dandiset with dandi, each file with the recording that it is derived from (untested:
    begin with --dry-run).

    The key of the archive is dandi's: in its keyring, or in an environment variable. It is never
    shown or stored here.

    Example: [bold]metadyn upload dandiset --dry-run[/bold]
    """
    planned = metadyn.upload(folder, instance=instance, dry_run=dry_run)
    show_plan(planned, sent=not dry_run)
    if planned.obstacles:
        raise typer.Exit(1)


def show_plan(planned: Plan, sent: bool) -> None:
    """Print which file goes where, what it was derived from, and what is in the way.

    Parameters
    ----------
    planned : of `metadyn.upload`.
    sent : it was carried out; otherwise the last line says that nothing was sent.
    """
    console = out()
    say(f"to the draft of dandiset {planned.dandiset} at {planned.instance}:")
    for asset in planned.assets:
        digest = _values(asset.metadata["digest"])
        say(f"  {asset.path}  {asset.size:,} bytes  {digest}")
        source = asset.derived_from
        names = _values(source, "name", "identifier") if source else ""
        say(f"    {source['relation']} {names}" if source else "    not derived")
    say(f"key: {planned.key}")
    for obstacle in planned.obstacles:
        console.print(Text(f"in the way: {obstacle}", style="red"))
    say("sent" if sent else "nothing was sent")


def _values(mapping: dict, *names: str) -> str:
    """The values of these names, or of all, in one line.

    >>> _values({"name": "day1.nwb", "relation": "prov:wasDerivedFrom"}, "name", "identifier")
    'day1.nwb'
    """
    return " ".join(str(mapping[name]) for name in names or mapping if name in mapping)
