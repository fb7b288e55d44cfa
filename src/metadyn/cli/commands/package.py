"""`metadyn package`: derived files as a dandiset, and what its checks find.

Only files from `metadyn derive` (or `annotate --derive`) are taken. The exit code is 1 where a
finding would make DANDI refuse the upload.

In Python: `metadyn.package(["derived"], "dandiset")`, then `metadyn.findings("dandiset")`
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

import metadyn
from metadyn.cli.console import out, say
from metadyn.cli.options import Files
from metadyn.cli.progress import working

if TYPE_CHECKING:
    from metadyn.sharing.findings import Finding


def package(
    files: Files,
    output: Annotated[Path, typer.Option("--output", "-o", help="folder of the dandiset")],
    metadata: Annotated[
        Path | None, typer.Option(help="TOML file with what the files lack")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="replace files that exist in the folder")
    ] = False,
) -> None:
    """Lay derived files out as a dandiset, and say what `dandi validate` and nwbinspector find and
    what mends it.

    What DANDI needs and a file lacks (subject_id, species, sex, age, session_id) is asked for: the
    message comes with a TOML template on the standard output. A draft of dandiset.yaml is written
    once, with contributors left to you.

    Example: [bold]metadyn package derived -o dandiset --metadata metadata.toml[/bold]
    """
    with working("packaging"):
        metadyn.package(files, output, metadata, overwrite=overwrite, report=say)
    with working("dandi validate and nwbinspector"):
        found = metadyn.findings(output)
    show_findings(found, output)
    if any(each.blocks for each in found):
        raise typer.Exit(1)


def show_findings(found: list[Finding], folder: Path) -> None:
    """Print each finding: its message, where it is, and what mends it; and how many block.

    Parameters
    ----------
    found : those that block an upload first, alike ones together.
    folder : of the dandiset, to which paths are given relative.
    """
    console = out()
    for each in found:
        word, colour = ("DANDI refuses", "red") if each.blocks else ("could be better", "yellow")
        others = len(each.messages) - 1
        alike = f" (and {others} alike)" if others else ""
        console.print(Text(f"{word}: {each.messages[0]}{alike}", style=colour))
        console.print(Text(f"  {_where(each, folder)}  [{each.check}]\n  to mend: {each.remedy}"))
    n_blocking = sum(each.blocks for each in found)
    verdict = f"{n_blocking or 'none'} in the way of an upload"
    say(f"dandi validate and nwbinspector: {len(found)} kinds of findings, {verdict}")


def _where(finding: Finding, folder: Path) -> str:
    """The files of a finding, relative to the folder, and the objects inside them."""
    files = [
        file.relative_to(folder) if file.is_relative_to(folder) else file for file in finding.files
    ]
    where = f"{files[0]} and {len(files) - 1} more" if len(files) > 1 else f"{files[0]}"
    if not finding.objects:
        return where
    more = ", …" if len(finding.objects) > 3 else ""
    return f"{where}: {', '.join(finding.objects[:3])}{more}"
