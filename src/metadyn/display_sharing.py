"""What a person sees of files to be shared: what is left out, what DANDI finds, what would be uploaded, which model is inside."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from metadyn.display import MOST_ROWS, out, rows


def show_left_out(paths: list[str]) -> None:
    """What a derived file is without."""
    if paths:
        more = f" and {len(paths) - MOST_ROWS} more" if len(paths) > MOST_ROWS else ""
        out().print(f"left out: {', '.join(paths[:MOST_ROWS])}{more}", markup=False, highlight=False)


def show_findings(found: list, folder) -> None:
    """`metadyn.sharing.findings.Finding`s: what it is, where, and what to do; those that block first."""
    console = out()
    for each in found:
        word = "DANDI refuses" if each.blocks else "could be better"
        console.print(Text(f"{word}: {each.message}", style="red" if each.blocks else "yellow"))
        console.print(Text(f"  where: {_where(each, folder)}\n  check: {each.check}\n  mend:  {each.remedy}"))
    blocking = sum(each.blocks for each in found)
    verdict = f"{blocking} of them stand in the way of an upload" if blocking else "none stands in the way of an upload"
    console.print(f"dandi validate and nwbinspector: {len(found)} findings, {verdict}", highlight=False)


def _where(finding, folder) -> str:
    files = [file.relative_to(folder) if file.is_relative_to(folder) else file for file in finding.files]
    names = f"{files[0]} and {len(files) - 1} more" if len(files) > 1 else f"{files[0]}"
    objects = f" ({', '.join(finding.objects[:3])}{', …' if len(finding.objects) > 3 else ''})" if finding.objects else ""
    return names + objects


def show_plan(planned, folder) -> None:
    """A `metadyn.sharing.upload.Plan`."""
    table = Table("file", "bytes", "digest", "derived from", title=f"to dandiset {planned.dandiset} of {planned.instance}")
    console = out()
    console.print(rows(table, list(planned.assets), _asset))
    console.print(Text(f"key: {planned.key}"))
    for obstacle in planned.obstacles:
        console.print(Text(f"in the way: {obstacle}", style="red"))


def _asset(asset) -> tuple:
    source = asset.derived_from or {}
    digest = asset.metadata["digest"].get("dandi:dandi-etag", "")
    return Text(asset.path), f"{asset.size:,}", digest, f"{source.get('name', 'not said')} {source.get('identifier', '')}"


def show_model(model, file) -> None:
    """A `metadyn.records.ModelFile` whose digest was verified: what it is, and the sessions that it knows."""
    settings = model.config["model"]
    console = out()
    console.print(Text(f"{file}: {model.architecture}", style="bold"))
    console.print(f"digest: {model.digest} (verified, {len(model.weights):,} bytes)", markup=False, highlight=False)
    sizes = f"{settings['latent_dim']} latents, embedding of {settings['embedding_dim']}, {settings['conditioning']} dynamics"
    console.print(f"{sizes}, {settings['likelihood']} observations, bins of {model.config['bin_width']} s", highlight=False)
    table = Table("session", "units", "file", "digest of the file", title="trained on", title_justify="left")
    console.print(rows(table, list(model.sessions), _session))


def _session(entry) -> tuple:
    return Text(entry.key), entry.n_units, Text(entry.source.uri or "not said"), entry.source.digest or "not said"
