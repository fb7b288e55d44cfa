"""`metadyn model`: the model inside an NWB file.

Weights are read as safetensors, settings as JSON: neither can hold code. A file whose weights do
not have the digest that it states is refused.

In Python: `metadyn.read_model("annotated/day1.nwb")`, and `metadyn.export_model` for --output
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

import metadyn
from metadyn.cli.console import out, rows, say
from metadyn.old_words import modern

if TYPE_CHECKING:
    from metadyn.records import ModelFile, SessionEntry


def model(
    file: Annotated[str, typer.Argument(help="NWB file that holds a model, or its address")],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="also keep its weights here (.safetensors) and its config beside (.json)",
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="replace files that exist")
    ] = False,
) -> None:
    """Show the model inside an NWB file, its digest verified, and what it was trained on. Nothing
    of the file is executed.

    To give it a recording of yours: metadyn align FILE my_session.nwb -o my_model

    Example: [bold]metadyn model annotated/day1.nwb -o model.safetensors[/bold]
    """
    show_model(metadyn.read_model(file), file)
    if output is not None:
        for path in metadyn.export_model(file, output, overwrite=overwrite):
            say(path)


def show_model(model: ModelFile, file: str) -> None:
    """Print the kind and sizes of a model, and the sessions that it knows.

    Parameters
    ----------
    model : whose digest was verified; settings of older versions are shown in today's words.
    file : that it comes from, as it was given.
    """
    console = out()
    console.print(Text(f"{file}: {model.architecture}", style="bold"))
    say(f"digest: {model.digest} (verified, {len(model.weights):,} bytes)")
    settings = modern("model", model.config["model"])
    say(
        f"{settings['latent_dim']} latents, embedding of {settings['embedding_dim']}, "
        f"{settings.get('dynamics', 'mlp')} dynamics, {settings['conditioning']} conditioning, "
        f"{settings['likelihood']} observations, "
        f"bins of {model.config['bin_width']} s"
    )
    headings = ("session", "units", "file", "digest of the file")
    table = Table(*headings, title="trained on", title_justify="left")
    console.print(rows(table, list(model.sessions), _session_row))


def _session_row(entry: SessionEntry) -> tuple:
    """Key and units of a session, and name and sha256 of its file where the model has them."""
    uri, digest = entry.source.uri, entry.source.digest
    return entry.key, entry.n_units, uri or "not said", digest or "not said"
