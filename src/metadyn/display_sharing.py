"""What a person sees of files to be shared: what is left out, what DANDI finds, what is uploaded,
which model is inside."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from metadyn.display import MOST_ROWS, out, rows


def show_session(asset, session) -> None:
    """A `metadyn.records.Session` in one line, with its file and the address that other commands
    take."""
    tables = (
        ", ".join(f"{name} ({len(table)})" for name, table in session.intervals.items())
        or "no interval table"
    )
    found = f"{asset.path}  {asset}  {session.n_units} units, {len(session.spike_times)} spikes; {tables}"
    out().print(found, markup=False, highlight=False)


def show_left_out(paths: list[str]) -> None:
    """What a derived file is without."""
    if paths:
        more = f" and {len(paths) - MOST_ROWS} more" if len(paths) > MOST_ROWS else ""
        out().print(f"left out: {', '.join(paths[:MOST_ROWS])}{more}", highlight=False)


def show_findings(found: list, folder) -> None:
    """`metadyn.sharing.findings.Finding`s: what it is, where, and what to do; those that block
    first."""
    console = out()
    for each in found:
        word = "DANDI refuses" if each.blocks else "could be better"
        alike = f" (and {len(each.messages) - 1} alike)" if len(each.messages) > 1 else ""
        console.print(
            Text(f"{word}: {each.messages[0]}{alike}", style="red" if each.blocks else "yellow")
        )
        console.print(Text(f"  {_where(each, folder)}  [{each.check}]\n  to mend: {each.remedy}"))
    n_blocking = sum(each.blocks for each in found)
    verdict = f"{n_blocking or 'none'} in the way of an upload"
    console.print(
        f"dandi validate and nwbinspector: {len(found)} kinds of findings, {verdict}",
        highlight=False,
    )


def _where(finding, folder) -> str:
    files = [
        file.relative_to(folder) if file.is_relative_to(folder) else file for file in finding.files
    ]
    names = f"{files[0]} and {len(files) - 1} more" if len(files) > 1 else f"{files[0]}"
    objects = (
        f": {', '.join(finding.objects[:3])}{', …' if len(finding.objects) > 3 else ''}"
        if finding.objects
        else ""
    )
    return names + objects


def show_plan(planned, sent: bool) -> None:
    """A `metadyn.sharing.upload.Plan`: what goes where, from what it was derived, and what is in
    the way."""
    console = out()
    console.print(
        f"to the draft of dandiset {planned.dandiset} at {planned.instance}:", highlight=False
    )
    for asset in planned.assets:
        console.print(
            Text(f"  {asset.path}  {asset.size:,} bytes  {_of_values(asset.metadata['digest'])}")
        )
        source = asset.derived_from
        console.print(
            Text(
                f"    {source['relation']} {_of_values(source, 'name', 'identifier')}"
                if source
                else "    not derived"
            )
        )
    console.print(Text(f"key: {planned.key}"))
    for obstacle in planned.obstacles:
        console.print(Text(f"in the way: {obstacle}", style="red"))
    console.print("sent" if sent else "nothing was sent")


def _of_values(mapping: dict, *names: str) -> str:
    return " ".join(str(mapping[name]) for name in names or mapping if name in mapping)


def show_model(model, file) -> None:
    """A `metadyn.records.ModelFile` whose digest was verified: what it is, and the sessions that it
    knows."""
    settings = model.config["model"]
    console = out()
    console.print(Text(f"{file}: {model.architecture}", style="bold"))
    console.print(
        f"digest: {model.digest} (verified, {len(model.weights):,} bytes)", highlight=False
    )
    sizes = f"{settings['latent_dim']} latents, embedding of {settings['embedding_dim']}, {settings['conditioning']} dynamics"
    console.print(
        f"{sizes}, {settings['likelihood']} observations, bins of {model.config['bin_width']} s",
        highlight=False,
    )
    table = Table(
        "session", "units", "file", "digest of the file", title="trained on", title_justify="left"
    )
    console.print(rows(table, list(model.sessions), _session))


def _session(entry) -> tuple:
    return (
        Text(entry.key),
        entry.n_units,
        Text(entry.source.uri or "not said"),
        entry.source.digest or "not said",
    )
